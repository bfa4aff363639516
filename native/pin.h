// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <optional>
#include <string>

#include "fd.h"

namespace falcodrop {

enum class Pinned { Map, Program, Link };

/** BPF_OBJ_GET of `path`, which must be a thing of that kind; NativeError EINVAL otherwise. */
Fd OpenPinned(Napi::Env env, const char *operation, const std::string &path, Pinned kind,
              bool readOnly);

/** The value of a field of /proc/self/fdinfo/FD, nothing when there is no such field. */
std::optional<std::string> FdInfo(Napi::Env env, const char *operation, int fd,
                                  const std::string &field);

/** BPF_OBJ_PIN. */
void PinTo(Napi::Env env, int fd, const std::string &path);

/** A second descriptor for the same thing, close-on-exec. */
Fd Duplicate(Napi::Env env, const char *operation, int fd);

} // namespace falcodrop
