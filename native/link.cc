// SPDX-License-Identifier: Apache-2.0
#include "link.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>

#include <algorithm>
#include <cerrno>

#include "error.h"
#include "netlink.h"
#include "pin.h"
#include "program.h"

namespace falcodrop {
namespace {

bpf_link_info AskInfo(Napi::Env env, const char *operation, int fd) {
  bpf_link_info info = {};
  uint32_t length = sizeof info;
  const int status = bpf_obj_get_info_by_fd(fd, &info, &length);
  if (status < 0)
    Fail(env, operation, status, About("link info"));
  return info;
}

Napi::Object ToObject(Napi::Env env, const bpf_link_info &info) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("id", info.id);
  result.Set("programId", info.prog_id);
  result.Set("ifindex", info.type == BPF_LINK_TYPE_XDP ? info.xdp.ifindex : 0);
  return result;
}

uint32_t ModeFlag(Napi::Value mode) {
  return RequireChoice(mode, "mode", "native", "generic") ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
}

} // namespace

BpfLink::BpfLink(const Napi::CallbackInfo &info) : Handle(info), parts_(TakeParts<Parts>()) {}

Napi::Value BpfLink::Info(const Napi::CallbackInfo &info) {
  RequireOpen(info.Env());
  // Asked anew each time: the program changes with an update, the interface goes with its device.
  return ToObject(info.Env(), AskInfo(info.Env(), "info", parts_.fd.Get()));
}

Napi::Value BpfLink::Pin(const Napi::CallbackInfo &info) {
  RequireOpen(info.Env());
  PinTo(info.Env(), parts_.fd.Get(), RequireString(info[0], "path"));
  return info.Env().Undefined();
}

Napi::Value BpfLink::Update(const Napi::CallbackInfo &info) {
  RequireOpen(info.Env());
  const BpfProgram &program = BpfProgram::Require(info[0], "program");
  const int status = bpf_link_update(parts_.fd.Get(), program.FdNumber(), nullptr);
  if (status < 0)
    Fail(info.Env(), "update", status);
  return info.Env().Undefined();
}

Napi::Value BpfLink::Detach(const Napi::CallbackInfo &info) {
  RequireOpen(info.Env());
  const int status = bpf_link_detach(parts_.fd.Get());
  if (status < 0)
    Fail(info.Env(), "detach", status);
  return info.Env().Undefined();
}

void BpfLink::Define(Napi::Env env) {
  Handle::Define(env, {
                          InstanceAccessor<&BpfLink::Info>("info"),
                          InstanceMethod<&BpfLink::Pin>("pin"),
                          InstanceMethod<&BpfLink::Update>("update"),
                          InstanceMethod<&BpfLink::Detach>("detach"),
                          InstanceMethod("close", &BpfLink::Close),
                      });
}

Napi::Value OpenLink(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const std::string path = RequireString(info[0], "path");
  BpfLink::Parts parts;
  parts.fd = OpenPinned(env, "openLink", path, Pinned::Link, false);
  return BpfLink::Create(env, std::move(parts));
}

Napi::Value LinkHolding(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const int ifindex = RequireIfindex(info[0]);
  // Link info names no network namespace, and two of them may use one index: the program on our
  // interface tells.
  const std::vector<uint32_t> attached = XdpProgramsOf(env, "linkHolding", ifindex);
  if (attached.empty())
    return env.Null();
  uint32_t id = 0;
  for (;;) {
    const int status = bpf_link_get_next_id(id, &id);
    if (status == -ENOENT)
      return env.Null();
    if (status < 0)
      Fail(env, "linkHolding", status);
    const int opened = bpf_link_get_fd_by_id(id);
    if (opened == -ENOENT) // it went away meanwhile
      continue;
    if (opened < 0)
      Fail(env, "linkHolding", opened);
    const Fd fd(opened);
    const bpf_link_info link = AskInfo(env, "linkHolding", opened);
    if (link.type == BPF_LINK_TYPE_XDP && link.xdp.ifindex == static_cast<uint32_t>(ifindex) &&
        std::find(attached.begin(), attached.end(), link.prog_id) != attached.end())
      return ToObject(env, link);
  }
}

Napi::Value AttachXdp(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const BpfProgram &program = BpfProgram::Require(info[0], "program");
  const int ifindex = RequireIfindex(info[1]);
  LIBBPF_OPTS(bpf_link_create_opts, options);
  options.flags = ModeFlag(info[2]);
  const int created = bpf_link_create(program.FdNumber(), ifindex, BPF_XDP, &options);
  if (created < 0)
    Fail(env, "attachXdp", created);
  BpfLink::Parts parts;
  parts.fd = Fd(created);
  return BpfLink::Create(env, std::move(parts));
}

Napi::Value ExplainXdpRefusal(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const BpfProgram &program = BpfProgram::Require(info[0], "program");
  const int ifindex = RequireIfindex(info[1]);
  const uint32_t mode = ModeFlag(info[2]);
  const Answer tried = SetXdp(env, "explainXdpRefusal", ifindex, program.FdNumber(),
                              mode | XDP_FLAGS_UPDATE_IF_NOEXIST, -1);
  if (tried.error == 0) {
    // Only what was just put there is taken off: XDP_FLAGS_REPLACE compares with the expected
    // program (Linux 5.7).
    const Answer undone =
        SetXdp(env, "explainXdpRefusal", ifindex, -1, mode | XDP_FLAGS_REPLACE, program.FdNumber());
    if (undone.error != 0)
      Fail(env, "explainXdpRefusal", undone.error,
           About("the program was accepted and could not be taken off again; " + undone.sentence));
    return env.Null();
  }
  if (tried.sentence.empty())
    return env.Null();
  return Napi::String::New(env, tried.sentence);
}

} // namespace falcodrop
