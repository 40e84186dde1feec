/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that Python has no word for. */

static long memplace_process_mbind(long nr, int pidfd, const struct iovec *vec, size_t vlen,
				   const struct memplace_mpol_args *args, size_t usize,
				   unsigned int flags)
{
	return syscall(nr, pidfd, vec, vlen, args, usize, flags);
}

/* move_pages(2) without target nodes: it moves nothing and tells where pages are. */
static long memplace_page_nodes(int pid, unsigned long count, const uint64_t *pages, int *status)
{
	return syscall(SYS_move_pages, (long)pid, count, pages, NULL, status, 0L);
}
