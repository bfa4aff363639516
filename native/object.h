// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/libbpf.h>

#include <memory>
#include <string>

#include "environment.h"

namespace falcodrop {

struct ObjectCloser {
  void operator()(bpf_object *object) const noexcept { bpf_object__close(object); }
};

class BpfObject : public Handle<BpfObject> {
public:
  static constexpr Class kClass = Class::Object;
  static constexpr const char *kName = "BpfObject";
  static constexpr napi_type_tag kTag = {0xc47ae1550f3b4b98, 0x9a06e8d27b1c5f43};

  struct Parts {
    std::unique_ptr<bpf_object, ObjectCloser> object;
    bool loadTried = false;
    bool loaded = false;
  };

  static void Define(Napi::Env env);
  explicit BpfObject(const Napi::CallbackInfo &info);
  void Release() noexcept { parts_.object.reset(); }

private:
  Napi::Value Maps(const Napi::CallbackInfo &info);
  Napi::Value Programs(const Napi::CallbackInfo &info);
  Napi::Value StructLayout(const Napi::CallbackInfo &info);
  Napi::Value EnumValues(const Napi::CallbackInfo &info);
  Napi::Value SetMaxEntries(const Napi::CallbackInfo &info);
  Napi::Value ReuseMap(const Napi::CallbackInfo &info);
  Napi::Value SetRodata(const Napi::CallbackInfo &info);
  Napi::Value SetAutoload(const Napi::CallbackInfo &info);
  Napi::Value AddProgramFlags(const Napi::CallbackInfo &info);
  Napi::Value Load(const Napi::CallbackInfo &info);
  Napi::Value Map(const Napi::CallbackInfo &info);
  Napi::Value Program(const Napi::CallbackInfo &info);

  bpf_map *FindMap(Napi::Env env, const char *operation, const std::string &name) const;
  bpf_program *FindProgram(Napi::Env env, const char *operation, const std::string &name) const;
  const btf *Types(Napi::Env env, const char *operation) const;
  void RequireNotLoaded(Napi::Env env, const char *operation) const;
  void RequireLoaded(Napi::Env env, const char *operation) const;

  Parts parts_;
};

/** openObject of src/kernel/native.ts. */
Napi::Value OpenObject(const Napi::CallbackInfo &info);

} // namespace falcodrop
