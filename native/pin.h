// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <string>

#include "fd.h"

namespace falcodrop {

/** What a bpf descriptor can be; the kernel's name of its anonymous inode. */
inline constexpr const char *kMapInode = "anon_inode:bpf-map";
inline constexpr const char *kProgramInode = "anon_inode:bpf-prog";
inline constexpr const char *kLinkInode = "anon_inode:bpf_link";

/** BPF_OBJ_GET of `path`, which must be a thing of the kind `inode`; NativeError EINVAL otherwise.
 */
Fd OpenPinned(Napi::Env env, const char *operation, const std::string &path, const char *inode,
              bool readOnly);

/** BPF_OBJ_PIN. */
void PinTo(Napi::Env env, int fd, const std::string &path);

/** A second descriptor for the same thing, close-on-exec. */
Fd Duplicate(Napi::Env env, const char *operation, int fd);

} // namespace falcodrop
