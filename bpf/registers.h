/* SPDX-License-Identifier: GPL-2.0-only */
/* registers.h: where struct pt_regs keeps what a kprobe asks for, in words of 8 bytes. */
#ifndef HATRACE_REGISTERS_H
#define HATRACE_REGISTERS_H

#if defined(__x86_64__) || defined(CONFIG_X86_64)
/* arch/x86/include/asm/ptrace.h: r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di */
#define FIRST_ARGUMENT 14
#define SECOND_ARGUMENT 13
#define THIRD_ARGUMENT 12
#elif defined(__aarch64__) || defined(CONFIG_ARM64)
/* arch/arm64/include/asm/ptrace.h: regs[31] */
#define FIRST_ARGUMENT 0
#define SECOND_ARGUMENT 1
#define THIRD_ARGUMENT 2
#else
#error "kprobe rung: the registers of this machine are not known"
#endif

#endif
