/* SPDX-License-Identifier: Apache-2.0 */
/* The requests that fuzz.c makes, and what may be said to them. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static void make_range(struct iovec *range, bool wild)
{
	size_t first = below(WINDOW_PAGES), count = 1 + below(one_in(8) ? WINDOW_PAGES : 32);

	range->iov_base = (void *)(WINDOW + first * PAGE);
	range->iov_len = count * PAGE;
	if (!wild)
		return;
	if (one_in(40))
		range->iov_base = (void *)next();
	if (one_in(40))
		range->iov_len = next();
	if (one_in(40))
		range->iov_len = 0;
}

static void make_policy(struct request *r, bool wild)
{
	static const uint16_t modes[] = { PREFERRED, BIND, INTERLEAVE, PREFERRED_MANY, 6, DEFAULT,
					  LOCAL };

	r->args.mode = modes[below(wild ? COUNT(modes) : COUNT(modes) - 2)];
	r->args.mode_flags = one_in(4) ? 1 << (13 + below(3)) : 0;
	r->args.maxnode = 64;
	r->args.nodes = (unsigned long)&r->nodes;
	/* Most have a node that the target may use */
	r->nodes = 1 + (below(15) | below(15));
	if (!wild)
		return;
	r->nodes = one_in(20) ? next() : below(16);
	if (one_in(20))
		r->args.mode = next();
	if (one_in(20))
		r->args.maxnode = next();
	if (one_in(20))
		r->args.nodes = next();
	if (r->args.mode == DEFAULT || r->args.mode == LOCAL)
		r->nodes = one_in(8) ? r->nodes : 0;
}

static void make_flags(struct request *r, bool wild)
{
	r->flags = next() & ALL_FLAGS;
	if (!one_in(4))
		r->flags &= ~(unsigned int)(STRICT | HOME_NODE);
	if (!(r->flags & MF_FUTURE))
		r->flags &= ~(unsigned int)MF_FUTURE_EXEC;
	if (wild && one_in(4))
		r->flags = one_in(2) ? next() & ALL_FLAGS : next();
	if ((r->flags & HOME_NODE) && one_in(2))
		r->args.home_node = below(5);
}

/* Which mappings to come: only the longer structure can say it. */
static void make_scope(struct request *r)
{
	if (!(r->flags & MF_FUTURE) && !one_in(20))
		return;
	r->args.future = one_in(2) ? below(one_in(8) ? 8 : 4) : 0;
	r->args.reserved = one_in(40);
	r->args.future_min = one_in(3) ? below(64) * PAGE : 0;
}

void make_request(struct request *r)
{
	bool wild = one_in(2);

	memset(r, 0, sizeof(*r));
	r->vlen = below(MAX_VEC + 1);
	for (size_t i = 0; i < r->vlen; i++) {
		make_range(&r->vec[i], wild);
		if (__builtin_add_overflow(r->total, r->vec[i].iov_len, &r->total))
			r->total = SIZE_MAX / 2;
	}
	make_policy(r, wild);
	make_flags(r, wild);
	r->usize = one_in(2) ? MPOL_ARGS_SIZE_VER0 : MPOL_ARGS_SIZE_VER1;
	if (r->usize == MPOL_ARGS_SIZE_VER1)
		make_scope(r);
	if (wild && one_in(8))
		r->usize = below(8192);
}

/* Whether the fields of the longer structure, as far as they are given, make no sense. */
static bool scope_is_nonsense(const struct request *r)
{
	struct mpol_args args = { 0 };

	memcpy(&args, &r->args, r->usize < sizeof(args) ? r->usize : sizeof(args));
	if (!(r->flags & MF_FUTURE))
		return args.future || args.future_min || args.reserved;
	return args.reserved || (args.future & ~(FUTURE_BRK | FUTURE_MMAP)) ||
	       (args.future_min && (args.future == FUTURE_BRK || args.mode == DEFAULT));
}

static bool may_be_answered(const struct request *r, long error)
{
	static const int named[] = {
		EINVAL, EFAULT, EPERM, ESRCH, E2BIG, EBADF, EIO, ENOMEM, EBUSY,
	};

	for (size_t i = 0; i < COUNT(named); i++)
		if (named[i] == error)
			return true;
	return error == ESTALE && (r->flags & PRIVATE_ANON);
}

const char *wrong_answer(const struct request *r, long result)
{
	if (result < 0 && !may_be_answered(r, -result))
		return "an errno that the manual does not name";
	if ((r->flags & ~ALL_FLAGS) && result != -EINVAL)
		return "unknown flags were not refused";
	if (!(r->flags & ~ALL_FLAGS) && r->usize > PAGE && result != -E2BIG && result != -EINVAL)
		return "a structure larger than a page was not refused";
	if (r->usize < MPOL_ARGS_SIZE_VER0 && result != -EINVAL)
		return "a structure too small was not refused";
	if (result >= 0 && scope_is_nonsense(r))
		return "nonsense about mappings to come was not refused";
	if (result > 0 && (size_t)result > r->total + r->vlen * PAGE)
		return "the result is more than was asked for";
	return NULL;
}
