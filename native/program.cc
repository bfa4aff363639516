// SPDX-License-Identifier: Apache-2.0
#include "program.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <cstring>
#include <ctime>
#include <vector>

#include "error.h"
#include "pin.h"

namespace falcodrop {
namespace {

/** More than the kernel takes (a linear packet of a page, or 64 KiB in fragments; a context of 64
 * KiB). */
constexpr size_t kMostInput = 1u << 20;

/** A program may grow its packet at both ends: 256 bytes of headroom, less than a page behind. */
constexpr size_t kGrowth = 8192;

constexpr int64_t kMostRuns = 1'000'000'000;

ProgramFacts AskFacts(Napi::Env env, const char *operation, int fd) {
  bpf_prog_info info = {};
  uint32_t length = sizeof info;
  const int status = bpf_obj_get_info_by_fd(fd, &info, &length);
  if (status < 0)
    Fail(env, operation, status, About("program info"));
  ProgramFacts facts;
  facts.id = info.id;
  facts.name.assign(info.name, strnlen(info.name, sizeof info.name));
  facts.type = info.type;
  constexpr char kDigits[] = "0123456789abcdef";
  for (const uint8_t byte : info.tag) {
    facts.tag += kDigits[byte >> 4];
    facts.tag += kDigits[byte & 15];
  }
  // Another call with room for them; the maps of a loaded program stay the same.
  facts.mapIds.resize(info.nr_map_ids);
  bpf_prog_info again = {};
  again.nr_map_ids = info.nr_map_ids;
  again.map_ids = reinterpret_cast<uintptr_t>(facts.mapIds.data());
  length = sizeof again;
  const int asked = bpf_obj_get_info_by_fd(fd, &again, &length);
  if (asked < 0)
    Fail(env, operation, asked, About("program info"));
  return facts;
}

Napi::Object ToObject(Napi::Env env, const ProgramFacts &facts) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("id", facts.id);
  result.Set("name", facts.name);
  result.Set("type", facts.type);
  result.Set("tag", facts.tag);
  Napi::Array mapIds = Napi::Array::New(env, facts.mapIds.size());
  for (uint32_t at = 0; at < facts.mapIds.size(); at++)
    mapIds.Set(at, facts.mapIds[at]);
  result.Set("mapIds", mapIds);
  return result;
}

/** An input of a test run, copied: the kernel writes a syscall program's context back into the
 * caller's memory. */
std::vector<uint8_t> TakeInput(Napi::Value value, const char *name) {
  if (value.IsUndefined())
    return {};
  const Bytes bytes = RequireBytes(value, name);
  if (bytes.length > kMostInput)
    ThrowRange(value.Env(), std::string(name) + " must be at most " + std::to_string(kMostInput) +
                                " bytes, not " + std::to_string(bytes.length));
  return std::vector<uint8_t>(bytes.data, bytes.data + bytes.length);
}

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

} // namespace

BpfProgram::BpfProgram(const Napi::CallbackInfo &info) : Handle(info), parts_(TakeParts<Parts>()) {}

Napi::Object BpfProgram::FromFd(Napi::Env env, const char *operation, Fd fd) {
  Parts parts;
  parts.facts = AskFacts(env, operation, fd.Get());
  parts.fd = std::move(fd);
  return Create(env, std::move(parts));
}

Napi::Value BpfProgram::Info(const Napi::CallbackInfo &info) {
  RequireOpen(info.Env());
  return ToObject(info.Env(), parts_.facts);
}

Napi::Value BpfProgram::Pin(const Napi::CallbackInfo &info) {
  RequireOpen(info.Env());
  PinTo(info.Env(), FdNumber(), RequireString(info[0], "path"));
  return info.Env().Undefined();
}

Napi::Value BpfProgram::TestRun(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const Napi::Object given = RequireObject(info[0], "options");
  const Napi::Value givenData = given.Get("data");
  const Napi::Value givenContext = given.Get("context");
  const Napi::Value givenRepeat = given.Get("repeat");
  RequireOpen(env); // a getter may have closed it
  const uint32_t repeat =
      givenRepeat.IsUndefined()
          ? 1
          : static_cast<uint32_t>(RequireInteger(givenRepeat, "options.repeat", 1, kMostRuns));
  const std::vector<uint8_t> data = TakeInput(givenData, "options.data");
  std::vector<uint8_t> context = TakeInput(givenContext, "options.context");

  LIBBPF_OPTS(bpf_test_run_opts, options);
  std::vector<uint8_t> dataOut;
  std::vector<uint8_t> contextOut;
  const bool isSyscall = parts_.facts.type == BPF_PROG_TYPE_SYSCALL;
  if (!context.empty()) {
    options.ctx_in = context.data();
    options.ctx_size_in = static_cast<uint32_t>(context.size());
  }
  if (isSyscall) {
    // net/bpf/test_run.c, bpf_prog_test_run_syscall: one run, no data, the context comes back in
    // ctx_in.
    if (!data.empty() || repeat != 1)
      ThrowType(env, "a syscall program takes neither options.data nor options.repeat");
  } else {
    dataOut.resize(data.size() + kGrowth);
    options.data_in = data.data();
    options.data_size_in = static_cast<uint32_t>(data.size());
    options.data_out = dataOut.data();
    options.data_size_out = static_cast<uint32_t>(dataOut.size());
    options.repeat = static_cast<int>(repeat);
    if (!context.empty()) {
      contextOut.resize(context.size());
      options.ctx_out = contextOut.data();
      options.ctx_size_out = static_cast<uint32_t>(contextOut.size());
    }
  }
  const int64_t before = NowNs();
  const int status = bpf_prog_test_run_opts(FdNumber(), &options);
  const int64_t after = NowNs();
  if (status < 0)
    Fail(env, "testRun", status);

  dataOut.resize(std::min<size_t>(dataOut.size(), options.data_size_out));
  contextOut.resize(std::min<size_t>(contextOut.size(), options.ctx_size_out));
  const std::vector<uint8_t> &contextAfter = isSyscall ? context : contextOut;
  Napi::Object result = Napi::Object::New(env);
  result.Set("returnValue", options.retval);
  result.Set("data", Napi::Buffer<uint8_t>::Copy(env, dataOut.data(), dataOut.size()));
  result.Set("context", Napi::Buffer<uint8_t>::Copy(env, contextAfter.data(), contextAfter.size()));
  result.Set("durationNs", isSyscall ? static_cast<double>(after - before)
                                     : static_cast<double>(options.duration));
  return result;
}

void BpfProgram::Define(Napi::Env env) {
  Handle::Define(env, {
                          InstanceAccessor<&BpfProgram::Info>("info"),
                          InstanceMethod<&BpfProgram::Pin>("pin"),
                          InstanceMethod<&BpfProgram::TestRun>("testRun"),
                          InstanceMethod("close", &BpfProgram::Close),
                      });
}

Napi::Value OpenProgram(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const std::string path = RequireString(info[0], "path");
  return BpfProgram::FromFd(env, "openProgram",
                            OpenPinned(env, "openProgram", path, Pinned::Program, false));
}

Napi::Value ProgramInfoById(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const uint32_t id = RequireUint32(info[0], "id", 1);
  const int opened = bpf_prog_get_fd_by_id(id);
  if (opened < 0)
    Fail(env, "programInfoById", opened, About("program " + std::to_string(id)));
  const Fd fd(opened);
  return ToObject(env, AskFacts(env, "programInfoById", fd.Get()));
}

} // namespace falcodrop
