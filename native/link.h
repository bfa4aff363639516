// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "environment.h"
#include "fd.h"

namespace falcodrop {

class BpfLink : public Handle<BpfLink> {
public:
  static constexpr Class kClass = Class::Link;
  static constexpr const char *kName = "BpfLink";
  static constexpr napi_type_tag kTag = {0x0e92d4a7b85c4fd6, 0x8c31f6e05a9b7d24};

  struct Parts {
    Fd fd;
  };

  static void Define(Napi::Env env);
  explicit BpfLink(const Napi::CallbackInfo &info);
  void Release() noexcept { parts_.fd.Reset(); }

private:
  Napi::Value Info(const Napi::CallbackInfo &info);
  Napi::Value Pin(const Napi::CallbackInfo &info);
  Napi::Value Update(const Napi::CallbackInfo &info);
  Napi::Value Detach(const Napi::CallbackInfo &info);

  Parts parts_;
};

/** openLink, linkHolding, attachXdp and explainXdpRefusal of src/kernel/native.ts. */
Napi::Value OpenLink(const Napi::CallbackInfo &info);
Napi::Value LinkHolding(const Napi::CallbackInfo &info);
Napi::Value AttachXdp(const Napi::CallbackInfo &info);
Napi::Value ExplainXdpRefusal(const Napi::CallbackInfo &info);

} // namespace falcodrop
