// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace falcodrop {

/** System calls that Node lacks; each as declared in src/kernel/native.ts. */
Napi::Value SendUnixDatagram(const Napi::CallbackInfo &info);
Napi::Value MountBpffs(const Napi::CallbackInfo &info);
Napi::Value Unmount(const Napi::CallbackInfo &info);
Napi::Value Clocks(const Napi::CallbackInfo &info);
Napi::Value Membarrier(const Napi::CallbackInfo &info);
Napi::Value IsHungUp(const Napi::CallbackInfo &info);
Napi::Value ExchangePaths(const Napi::CallbackInfo &info);

} // namespace falcodrop
