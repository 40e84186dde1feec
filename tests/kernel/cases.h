/* SPDX-License-Identifier: Apache-2.0 */
/* All cases; tests/kernel/test_process_mbind.py has the same list. */
#ifndef CASES_H
#define CASES_H

#include <stdbool.h>

/* cases_abi.c */
bool sysfs_announcement(void);
bool errno_unknown_flag(void);
bool errno_usize_over_page(void);
bool errno_usize_too_small(void);
bool errno_args_fault(void);
bool errno_bad_pidfd(void);
bool empty_vector(void);
bool larger_struct(void);
bool bad_policies(void);
bool bad_vectors(void);
bool move_needs_nodes(void);
bool maxnode_counts_bits(void);
bool home_node(void);

/* cases_move.c */
bool self_bind_future_pages(void);
bool remote_bind_moves_anon(void);
bool remote_bind_moves_heap(void);
bool remote_preferred_many_moves(void);
bool remote_interleave_moves(void);
bool remote_bind_future_pages(void);
bool remote_default_resets(void);
bool policy_survives_fork(void);
bool move_leaves_shared_pages(void);
bool move_all_takes_shared_pages(void);
bool hole_efault(void);
bool partial_return(void);
bool vector_of_1024(void);
bool caller_untouched(void);

/* cases_permission.c */
bool other_uid_eperm(void);
bool same_uid_without_cap_eperm(void);
bool self_without_cap(void);
bool self_move_all_without_cap_eperm(void);
bool dead_pidfd_esrch(void);
bool zombie_esrch(void);

/* cases_cpuset.c */
bool target_clips_nodes(void);
bool target_excludes_all_nodes(void);
bool rebind_after_target_change(void);
bool caller_cpuset_no_escape(void);
bool caller_cpuset_nomove_allowed(void);
bool full_node_no_escape(void);

#endif
