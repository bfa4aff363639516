// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace falcodrop {

/** What the kernel said to one request: 0 or a positive errno, and its sentence (extack), empty if
 * none. */
struct Answer {
  int error = 0;
  std::string sentence;
};

/** RTM_SETLINK with IFLA_XDP. `programFd` -1 takes off; `expectedFd` (-1: none) goes with
 * XDP_FLAGS_REPLACE. */
Answer SetXdp(Napi::Env env, const char *operation, int ifindex, int programFd, uint32_t flags,
              int expectedFd);

/** Ids of the programs on an interface's XDP hooks, in every mode. NativeError ENODEV when there is
 * no such interface. */
std::vector<uint32_t> XdpProgramsOf(Napi::Env env, const char *operation, int ifindex);

/** The class behind Netlink.watch, and the `netlink` object of src/kernel/native.ts. */
void DefineWatch(Napi::Env env);
Napi::Object MakeNetlink(Napi::Env env);

} // namespace falcodrop
