/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of faults.c share. */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>

/* faults_default.c: a failing allocation of this thread. */
struct failure {
	int fd;
};

/* From here the nth allocation fails; none with 0. */
void fail_start(struct failure *failure, int nth);
/* Up to here; whether one did fail. */
bool fail_end(struct failure *failure);

/* Cases of a process that has a default for mappings to come. */
bool default_mmap(void);
bool default_brk(void);
bool default_fork(void);
bool default_execve(void);

/* Argument of this program when one of them executed it, and what it then returns. */
#define EXECUTED "executed"
int be_executed(void);

#endif
