// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "environment.h"
#include "fd.h"

namespace falcodrop {

struct ProgramFacts {
  uint32_t id = 0;
  std::string name;
  uint32_t type = 0;
  std::string tag;
  std::vector<uint32_t> mapIds;
};

class BpfProgram : public Handle<BpfProgram> {
public:
  static constexpr Class kClass = Class::Program;
  static constexpr const char *kName = "BpfProgram";
  static constexpr napi_type_tag kTag = {0x5d6a1b9137f84c02, 0xb4e2a7c96d0f1e83};

  struct Parts {
    Fd fd;
    ProgramFacts facts;
  };

  static void Define(Napi::Env env);
  static Napi::Object FromFd(Napi::Env env, const char *operation, Fd fd);

  explicit BpfProgram(const Napi::CallbackInfo &info);

  int FdNumber() const { return parts_.fd.Get(); }
  void Release() noexcept { parts_.fd.Reset(); }

private:
  Napi::Value Info(const Napi::CallbackInfo &info);
  Napi::Value Pin(const Napi::CallbackInfo &info);
  Napi::Value TestRun(const Napi::CallbackInfo &info);

  Parts parts_;
};

/** openProgram and programInfoById of src/kernel/native.ts. */
Napi::Value OpenProgram(const Napi::CallbackInfo &info);
Napi::Value ProgramInfoById(const Napi::CallbackInfo &info);

} // namespace falcodrop
