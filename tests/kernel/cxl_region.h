/* SPDX-License-Identifier: Apache-2.0 */
/* From a CXL memory device to a NUMA node, as an administrator would do it, by sysfs only. */
#ifndef CXL_REGION_H
#define CXL_REGION_H

#include <stdbool.h>

/* Makes one volatile region of the only endpoint's whole capacity and binds it to its driver. */
bool cxl_region_create(void);
/* NUMA node of the dax device that the region became, as soon as it has memory; else -1. */
int cxl_region_node(void);

#endif
