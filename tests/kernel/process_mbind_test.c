/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init of a machine with three NUMA nodes: 0 has the processors, 1 and 2 have only memory,
 * 2 is the smallest. Runs every case, writes TAP to the console and switches the machine off.
 */
#include "cases.h"
#include "guest.h"

#define CASE(name) { #name, name }

static const struct test_case cases[] = {
	CASE(sysfs_announcement),
	CASE(errno_unknown_flag),
	CASE(errno_usize_over_page),
	CASE(errno_usize_too_small),
	CASE(errno_args_fault),
	CASE(errno_bad_pidfd),
	CASE(empty_vector),
	CASE(larger_struct),
	CASE(bad_policies),
	CASE(bad_vectors),
	CASE(move_needs_nodes),
	CASE(maxnode_counts_bits),
	CASE(home_node),
	CASE(self_bind_future_pages),
	CASE(remote_bind_moves_anon),
	CASE(remote_bind_moves_heap),
	CASE(remote_preferred_many_moves),
	CASE(remote_interleave_moves),
	CASE(remote_bind_future_pages),
	CASE(remote_default_resets),
	CASE(policy_survives_fork),
	CASE(move_leaves_shared_pages),
	CASE(move_all_takes_shared_pages),
	CASE(hole_efault),
	CASE(partial_return),
	CASE(vector_of_1024),
	CASE(caller_untouched),
	CASE(other_uid_eperm),
	CASE(same_uid_without_cap_eperm),
	CASE(self_without_cap),
	CASE(self_move_all_without_cap_eperm),
	CASE(dead_pidfd_esrch),
	CASE(zombie_esrch),
	CASE(target_clips_nodes),
	CASE(target_excludes_all_nodes),
	CASE(rebind_after_target_change),
	CASE(caller_cpuset_no_escape),
	CASE(caller_cpuset_nomove_allowed),
	CASE(full_node_no_escape),
};

int main(void)
{
	mount_all();
	run_cases(cases, sizeof(cases) / sizeof(cases[0]));
	power_off();
}
