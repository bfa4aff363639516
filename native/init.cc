// SPDX-License-Identifier: Apache-2.0
#include <bpf/libbpf.h>
#include <napi.h>

#include "environment.h"
#include "error.h"
#include "link.h"
#include "lock.h"
#include "map.h"
#include "netlink.h"
#include "object.h"
#include "program.h"
#include "ringbuf.h"
#include "system.h"

#if LIBBPF_MAJOR_VERSION < 1
#error "falcodrop needs libbpf 1.0 or newer (Debian 12, Ubuntu 24.04, EL9 have it)"
#endif

namespace falcodrop {
namespace {

/** Raised whenever src/kernel/native.ts changes in a way that its callers can see. */
constexpr uint32_t kApiNumber = 2;

/** Runs once in every environment: the main thread and each worker that loads the addon. */
Napi::Object Init(Napi::Env env, Napi::Object exports) {
  SilenceLibbpf();
  env.SetInstanceData(new Environment(env));
  BpfObject::Define(env);
  BpfMap::Define(env);
  MappedArray::Define(env);
  BpfProgram::Define(env);
  BpfLink::Define(env);
  RingBuffer::Define(env);
  DefineWatch(env);
  DefineFileLock(env);

  Napi::Object versions = Napi::Object::New(env);
  const char *libbpf = libbpf_version_string(); // "v1.1"
  versions.Set("libbpf", libbpf[0] == 'v' ? libbpf + 1 : libbpf);
  versions.Set("api", kApiNumber);
  exports.Set("versions", versions);
  exports.Set("netlink", MakeNetlink(env));

  exports.Set("openObject", Napi::Function::New<OpenObject>(env, "openObject"));
  exports.Set("openMap", Napi::Function::New<OpenMap>(env, "openMap"));
  exports.Set("openProgram", Napi::Function::New<OpenProgram>(env, "openProgram"));
  exports.Set("openLink", Napi::Function::New<OpenLink>(env, "openLink"));
  exports.Set("programInfoById", Napi::Function::New<ProgramInfoById>(env, "programInfoById"));
  exports.Set("linkHolding", Napi::Function::New<LinkHolding>(env, "linkHolding"));
  exports.Set("attachXdp", Napi::Function::New<AttachXdp>(env, "attachXdp"));
  exports.Set("explainXdpRefusal",
              Napi::Function::New<ExplainXdpRefusal>(env, "explainXdpRefusal"));
  exports.Set("ringBuffer", Napi::Function::New<OpenRingBuffer>(env, "ringBuffer"));
  exports.Set("tryLock", Napi::Function::New<TryLock>(env, "tryLock"));
  exports.Set("lock", Napi::Function::New<Lock>(env, "lock"));
  exports.Set("sendUnixDatagram", Napi::Function::New<SendUnixDatagram>(env, "sendUnixDatagram"));
  exports.Set("mountBpffs", Napi::Function::New<MountBpffs>(env, "mountBpffs"));
  exports.Set("unmount", Napi::Function::New<Unmount>(env, "unmount"));
  exports.Set("clocks", Napi::Function::New<Clocks>(env, "clocks"));
  exports.Set("membarrier", Napi::Function::New<Membarrier>(env, "membarrier"));
  exports.Set("isHungUp", Napi::Function::New<IsHungUp>(env, "isHungUp"));
  exports.Set("exchangePaths", Napi::Function::New<ExchangePaths>(env, "exchangePaths"));
  return exports;
}

} // namespace
} // namespace falcodrop

static Napi::Object InitModule(Napi::Env env, Napi::Object exports) {
  return falcodrop::Init(env, exports);
}

NODE_API_MODULE(falcodrop, InitModule)
