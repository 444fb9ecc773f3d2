#include <hatrace/structs.h>
