// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace falcodrop {

void DefineFileLock(Napi::Env env);

/** tryLock and lock of src/kernel/native.ts. */
Napi::Value TryLock(const Napi::CallbackInfo &info);
Napi::Value Lock(const Napi::CallbackInfo &info);

} // namespace falcodrop
