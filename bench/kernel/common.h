/* SPDX-License-Identifier: Apache-2.0 */
/* What the two /init programs of the benchmark share: the calls they compare, and time. */
#ifndef COMMON_H
#define COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define MIB (1UL << 20)
#define HUGE (2 * MIB)
#define FAR_NODE 1

/* The number of the call, asked for once; -1 where the kernel does not have it. */
extern long number;

/* Nanoseconds; instructions where these are counted. */
uint64_t now(void);
/* Ends the whole with an ERROR unless both are the same. */
void expect(const char *name, long got, long want);

/* One call, the number known beforehand: what a program does that calls more than once. */
long call(int pidfd, const struct iovec *vec, size_t vlen, int mode, uint64_t nodes,
	  unsigned int flags);

/* What move_pages() wants: an address every `step` bytes, and a node for each. */
struct page_list {
	size_t count;
	void **pages;
	int *nodes;
	int *status;
};

struct page_list page_list(unsigned long addr, size_t len, size_t step);
void page_list_free(struct page_list *list);
void page_list_to(struct page_list *list, int node);
/* Moves `count` pages of the list from `first` on. */
long move_listed(pid_t pid, struct page_list *list, size_t first, size_t count);

/* Whether pages that are touched for the first time are huge ones. */
void huge_pages(bool on);
/* Memory of the process in huge pages, in bytes. */
size_t huge_bytes(pid_t pid);

#endif
