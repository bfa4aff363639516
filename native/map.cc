// SPDX-License-Identifier: Apache-2.0
#include "map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "error.h"
#include "pin.h"

namespace falcodrop {
namespace {

/** One batch call may use this much memory for its keys or its values. */
constexpr size_t kBatchLimit = 256u << 20;

bool IsPerCpu(uint32_t type) {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

MapFacts AskFacts(Napi::Env env, const char *operation, int fd) {
  bpf_map_info info = {};
  uint32_t length = sizeof info;
  const int status = bpf_obj_get_info_by_fd(fd, &info, &length);
  if (status < 0)
    Fail(env, operation, status, About("map info"));
  MapFacts facts;
  facts.id = info.id;
  facts.name.assign(info.name, strnlen(info.name, sizeof info.name));
  facts.type = info.type;
  facts.keySize = info.key_size;
  facts.valueSize = info.value_size;
  facts.maxEntries = info.max_entries;
  facts.flags = info.map_flags;
  facts.userValueSize = info.value_size;
  if (IsPerCpu(info.type)) {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 0)
      Fail(env, operation, cpus, About("possible CPUs"));
    facts.userValueSize = (size_t{info.value_size} + 7) / 8 * 8 * static_cast<size_t>(cpus);
  }
  return facts;
}

/** Said nowhere but in fdinfo. */
bool AskFrozen(Napi::Env env, int fd) {
  const std::optional<std::string> frozen = FdInfo(env, "info", fd, "frozen");
  return frozen && *frozen != "0";
}

/** A key pointer for the kernel, which wants NULL for maps without keys. */
const void *KeyPointer(const Bytes &key) {
  return key.length == 0 ? nullptr : key.data;
}

/** Uninitialised memory that the kernel fills. */
std::unique_ptr<uint8_t[]> Scratch(size_t length) {
  return std::unique_ptr<uint8_t[]>(new uint8_t[std::max<size_t>(length, 1)]);
}

Napi::Buffer<uint8_t> CopyOut(Napi::Env env, const uint8_t *data, size_t length) {
  return Napi::Buffer<uint8_t>::Copy(env, data, length);
}

/** How many elements a failed batch did: the kernel leaves `count` alone when it fails before the
 * first one. */
FailureDetails Done(uint32_t requested, uint32_t count) {
  FailureDetails details;
  details.count = count >= requested ? 0 : count;
  return details;
}

} // namespace

BpfMap::BpfMap(const Napi::CallbackInfo &info) : Handle(info), parts_(TakeParts<Parts>()) {}

Napi::Object BpfMap::FromFd(Napi::Env env, const char *operation, Fd fd) {
  Parts parts;
  parts.facts = AskFacts(env, operation, fd.Get());
  parts.fd = std::move(fd);
  return Create(env, std::move(parts));
}

Napi::Value BpfMap::Info(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const MapFacts &facts = parts_.facts;
  Napi::Object result = Napi::Object::New(env);
  result.Set("id", facts.id);
  result.Set("name", facts.name);
  result.Set("type", facts.type);
  result.Set("keySize", facts.keySize);
  result.Set("valueSize", facts.valueSize);
  result.Set("maxEntries", facts.maxEntries);
  result.Set("flags", facts.flags);
  result.Set("frozen", Napi::Boolean::New(env, AskFrozen(env, FdNumber())));
  return result;
}

Napi::Value BpfMap::Pin(const Napi::CallbackInfo &info) {
  RequireOpen(info.Env());
  PinTo(info.Env(), FdNumber(), RequireString(info[0], "path"));
  return info.Env().Undefined();
}

Napi::Value BpfMap::Lookup(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const Bytes key = RequireBytes(info[0], "key", parts_.facts.keySize);
  const size_t size = parts_.facts.userValueSize;
  uint8_t small[256];
  std::unique_ptr<uint8_t[]> large;
  uint8_t *value = small;
  if (size > sizeof small) {
    large = Scratch(size);
    value = large.get();
  }
  const int status = bpf_map_lookup_elem(FdNumber(), KeyPointer(key), value);
  if (status == -ENOENT)
    return env.Null();
  if (status < 0)
    Fail(env, "lookup", status);
  return CopyOut(env, value, size);
}

Napi::Value BpfMap::Update(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const Bytes key = RequireBytes(info[0], "key", parts_.facts.keySize);
  const Bytes value = RequireBytes(info[1], "value", parts_.facts.userValueSize);
  const uint32_t flags = OptionalFlags(info[2], "flags");
  const int status = bpf_map_update_elem(FdNumber(), KeyPointer(key), value.data, flags);
  if (status < 0)
    Fail(env, "update", status);
  return env.Undefined();
}

Napi::Value BpfMap::Delete(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const Bytes key = RequireBytes(info[0], "key", parts_.facts.keySize);
  const int status = bpf_map_delete_elem(FdNumber(), KeyPointer(key));
  if (status < 0 && status != -ENOENT)
    Fail(env, "delete", status);
  return Napi::Boolean::New(env, status == 0);
}

Napi::Value BpfMap::NextKey(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const void *previous = nullptr;
  if (!info[0].IsNull())
    previous = KeyPointer(RequireBytes(info[0], "key", parts_.facts.keySize));
  const std::unique_ptr<uint8_t[]> next = Scratch(parts_.facts.keySize);
  const int status = bpf_map_get_next_key(FdNumber(), previous, next.get());
  if (status == -ENOENT)
    return env.Null();
  if (status < 0)
    Fail(env, "nextKey", status);
  return CopyOut(env, next.get(), parts_.facts.keySize);
}

Napi::Value BpfMap::LookupBatch(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  // Hash maps keep a 32-bit bucket number in it, the others a key.
  const size_t cursorSize = std::max<size_t>(parts_.facts.keySize, sizeof(uint32_t));
  const std::unique_ptr<uint8_t[]> in = Scratch(cursorSize);
  const bool first = info[0].IsNull();
  if (!first)
    memcpy(in.get(), RequireBytes(info[0], "cursor", cursorSize).data, cursorSize);
  const size_t widest =
      std::max<size_t>({parts_.facts.keySize, parts_.facts.userValueSize, size_t{1}});
  const uint32_t most =
      static_cast<uint32_t>(std::max<size_t>(1, std::min<size_t>(kBatchLimit / widest, 1u << 24)));
  const uint32_t limit = RequireUint32(info[1], "limit", 1, most);

  const std::unique_ptr<uint8_t[]> keys = Scratch(size_t{limit} * parts_.facts.keySize);
  const std::unique_ptr<uint8_t[]> values = Scratch(size_t{limit} * parts_.facts.userValueSize);
  const std::unique_ptr<uint8_t[]> out = Scratch(cursorSize);
  memset(out.get(), 0, cursorSize);
  uint32_t count = limit;
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  const int status = bpf_map_lookup_batch(FdNumber(), first ? nullptr : in.get(), out.get(),
                                          keys.get(), values.get(), &count, &options);
  if (status < 0 && status != -ENOENT)
    Fail(env, "lookupBatch", status, Done(limit, count));
  count = std::min(count, limit);
  Napi::Object result = Napi::Object::New(env);
  result.Set("count", count);
  result.Set("keys", CopyOut(env, keys.get(), size_t{count} * parts_.facts.keySize));
  result.Set("values", CopyOut(env, values.get(), size_t{count} * parts_.facts.userValueSize));
  if (status == -ENOENT) // the end was reached in this call
    result.Set("cursor", env.Null());
  else
    result.Set("cursor", CopyOut(env, out.get(), cursorSize));
  return result;
}

Napi::Value BpfMap::UpdateBatch(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const Bytes keys = RequireBytes(info[0], "keys");
  const uint32_t requested = RequireElements(env, keys, "keys", parts_.facts.keySize);
  const Bytes values = RequireBytes(info[1], "values", requested * parts_.facts.userValueSize);
  const uint32_t flags = OptionalFlags(info[2], "flags");
  if (requested == 0)
    return Napi::Number::New(env, 0);
  uint32_t count = requested;
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  options.elem_flags = flags;
  const int status = bpf_map_update_batch(FdNumber(), keys.data, values.data, &count, &options);
  if (status < 0)
    Fail(env, "updateBatch", status, Done(requested, count));
  return Napi::Number::New(env, count);
}

Napi::Value BpfMap::DeleteBatch(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const Bytes keys = RequireBytes(info[0], "keys");
  const uint32_t requested = RequireElements(env, keys, "keys", parts_.facts.keySize);
  if (requested == 0)
    return Napi::Number::New(env, 0);
  uint32_t count = requested;
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  const int status = bpf_map_delete_batch(FdNumber(), keys.data, &count, &options);
  if (status < 0)
    Fail(env, "deleteBatch", status, Done(requested, count));
  return Napi::Number::New(env, count);
}

Napi::Value BpfMap::Freeze(const Napi::CallbackInfo &info) {
  RequireOpen(info.Env());
  const int status = bpf_map_freeze(FdNumber());
  if (status < 0)
    Fail(info.Env(), "freeze", status);
  return info.Env().Undefined();
}

Napi::Value BpfMap::Mmap(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const MapFacts &facts = parts_.facts;
  // Other kinds (ring buffers, arenas) lay their memory out differently.
  if (facts.type != BPF_MAP_TYPE_ARRAY || (facts.flags & BPF_F_MMAPABLE) == 0)
    Fail(env, "mmap", EINVAL, About("only an ARRAY created with BPF_F_MMAPABLE can be mapped"));
  MappedArray::Parts parts;
  // kernel/bpf/arraymap.c: elements lie at multiples of 8 bytes.
  parts.length = (size_t{facts.valueSize} + 7) / 8 * 8 * facts.maxEntries;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  parts.mappedLength = (parts.length + page - 1) / page * page;
  parts.writable = true;
  void *memory =
      mmap(nullptr, parts.mappedLength, PROT_READ | PROT_WRITE, MAP_SHARED, FdNumber(), 0);
  if (memory == MAP_FAILED && errno == EPERM) { // a frozen map can still be read
    parts.writable = false;
    memory = mmap(nullptr, parts.mappedLength, PROT_READ, MAP_SHARED, FdNumber(), 0);
  }
  if (memory == MAP_FAILED)
    Fail(env, "mmap", errno);
  parts.memory = static_cast<uint8_t *>(memory);
  return MappedArray::Create(env, std::move(parts));
}

void BpfMap::Define(Napi::Env env) {
  Handle::Define(env, {
                          InstanceAccessor<&BpfMap::Info>("info"),
                          InstanceMethod<&BpfMap::Pin>("pin"),
                          InstanceMethod<&BpfMap::Lookup>("lookup"),
                          InstanceMethod<&BpfMap::Update>("update"),
                          InstanceMethod<&BpfMap::Delete>("delete"),
                          InstanceMethod<&BpfMap::NextKey>("nextKey"),
                          InstanceMethod<&BpfMap::LookupBatch>("lookupBatch"),
                          InstanceMethod<&BpfMap::UpdateBatch>("updateBatch"),
                          InstanceMethod<&BpfMap::DeleteBatch>("deleteBatch"),
                          InstanceMethod<&BpfMap::Freeze>("freeze"),
                          InstanceMethod<&BpfMap::Mmap>("mmap"),
                          InstanceMethod("close", &BpfMap::Close),
                      });
}

Napi::Value OpenMap(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  bool readOnly = false;
  if (!info[1].IsUndefined()) {
    const Napi::Value wanted = RequireObject(info[1], "options").Get("readOnly");
    if (!wanted.IsUndefined())
      readOnly = RequireBoolean(wanted, "options.readOnly");
  }
  const std::string path = RequireString(info[0], "path");
  return BpfMap::FromFd(env, "openMap", OpenPinned(env, "openMap", path, Pinned::Map, readOnly));
}

} // namespace falcodrop
