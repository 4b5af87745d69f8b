/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

unsigned share_of_user(unsigned uid);
unsigned share_of_peer(const unsigned char address[16]);
int is_in_share(unsigned share, unsigned place);
int may_go(int goes_on, long long idle_ns, long long longest_ns);
unsigned place_to_try(unsigned* hand, unsigned* run, unsigned step, unsigned places, unsigned on_processor,
                      unsigned random);

#ifdef __cplusplus
}
#endif
