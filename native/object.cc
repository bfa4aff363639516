// SPDX-License-Identifier: Apache-2.0
#include "object.h"

#include <bpf/btf.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "error.h"
#include "fd.h"
#include "map.h"
#include "pin.h"
#include "program.h"

namespace falcodrop {
namespace {

constexpr size_t kMostObjectBytes = 64u << 20;
constexpr size_t kMostLogBytes = 16u << 10;
/** Anonymous structs in anonymous structs: BTF from a broken compiler must not exhaust the stack.
 */
constexpr int kMostNesting = 16;

struct Member {
  std::string name;
  uint32_t offset;
  uint32_t size;
};

/** Strips typedefs and qualifiers; null when the chain leads nowhere. */
const btf_type *Resolve(const btf *types, uint32_t id) {
  const btf_type *type = btf__type_by_id(types, id);
  for (int step = 0; type != nullptr && step < 32; step++) {
    if (!btf_is_mod(type) && !btf_is_typedef(type))
      return type;
    type = btf__type_by_id(types, type->type);
  }
  return nullptr;
}

/** Members with a name; those of anonymous structs and unions are lifted to where they lie. */
void CollectMembers(Napi::Env env, const btf *types, const btf_type *type, uint32_t base,
                    int nesting, std::vector<Member> *members) {
  if (nesting > kMostNesting)
    Fail(env, "structLayout", ELOOP);
  const btf_member *member = btf_members(type);
  for (uint16_t i = 0; i < btf_vlen(type); i++, member++) {
    const char *name = btf__name_by_offset(types, member->name_off);
    const uint32_t bits = btf_member_bit_offset(type, i);
    const btf_type *inner = Resolve(types, member->type);
    if (inner == nullptr || name == nullptr)
      Fail(env, "structLayout", EINVAL, About("broken BTF"));
    if (name[0] == '\0' && btf_is_composite(inner)) {
      CollectMembers(env, types, inner, base + bits / 8, nesting + 1, members);
      continue;
    }
    const int64_t size = btf__resolve_size(types, member->type);
    if (size < 0 || bits % 8 != 0 || btf_member_bitfield_size(type, i) != 0)
      Fail(env, "structLayout", EINVAL,
           About(std::string(name) + " is a bit field or has no size"));
    members->push_back({name, base + bits / 8, static_cast<uint32_t>(size)});
  }
}

/** The variable `name` of a data section: offset and size, or false. */
bool FindVariable(const btf *types, const char *section, const std::string &name, uint32_t *offset,
                  uint32_t *size) {
  const int id = btf__find_by_name_kind(types, section, BTF_KIND_DATASEC);
  if (id < 0)
    return false;
  const btf_type *data = btf__type_by_id(types, static_cast<uint32_t>(id));
  const btf_var_secinfo *variable = btf_var_secinfos(data);
  for (uint16_t i = 0; i < btf_vlen(data); i++, variable++) {
    const btf_type *type = btf__type_by_id(types, variable->type);
    const char *is = type == nullptr ? nullptr : btf__name_by_offset(types, type->name_off);
    if (is != nullptr && name == is) {
      *offset = variable->offset;
      *size = variable->size;
      return true;
    }
  }
  return false;
}

/** A failure with libbpf's own last words, which name the cause better than the number does. */
[[noreturn]] void FailWith(Napi::Env env, const char *operation, int error, std::string about,
                           const LibbpfLog &log) {
  const std::string last = log.LastLine();
  if (!last.empty())
    about += about.empty() ? last : ": " + last;
  Fail(env, operation, error, About(about));
}

} // namespace

BpfObject::BpfObject(const Napi::CallbackInfo &info) : Handle(info), parts_(TakeParts<Parts>()) {}

bpf_map *BpfObject::FindMap(Napi::Env env, const char *operation, const std::string &name) const {
  bpf_map *map = bpf_object__find_map_by_name(parts_.object.get(), name.c_str());
  if (map == nullptr)
    Fail(env, operation, ENOENT, About("no map " + name));
  return map;
}

bpf_program *BpfObject::FindProgram(Napi::Env env, const char *operation,
                                    const std::string &name) const {
  bpf_program *program = bpf_object__find_program_by_name(parts_.object.get(), name.c_str());
  if (program == nullptr)
    Fail(env, operation, ENOENT, About("no program " + name));
  return program;
}

const btf *BpfObject::Types(Napi::Env env, const char *operation) const {
  const btf *types = bpf_object__btf(parts_.object.get());
  if (types == nullptr)
    Fail(env, operation, ENOENT, About("the object has no BTF"));
  return types;
}

void BpfObject::RequireNotLoaded(Napi::Env env, const char *operation) const {
  RequireOpen(env);
  if (parts_.loadTried)
    Fail(env, operation, EBUSY, About("too late: load() was called"));
}

void BpfObject::RequireLoaded(Napi::Env env, const char *operation) const {
  if (!parts_.loaded)
    Fail(env, operation, EINVAL, About("the object is not loaded"));
}

Napi::Value BpfObject::Maps(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  Napi::Array result = Napi::Array::New(env);
  bpf_map *map = nullptr;
  uint32_t at = 0;
  bpf_object__for_each_map(map, parts_.object.get()) {
    if (bpf_map__is_internal(map)) // .rodata and the like: nobody declared them
      continue;
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", bpf_map__name(map));
    entry.Set("type", static_cast<uint32_t>(bpf_map__type(map)));
    entry.Set("keySize", bpf_map__key_size(map));
    entry.Set("valueSize", bpf_map__value_size(map));
    entry.Set("maxEntries", bpf_map__max_entries(map));
    result.Set(at++, entry);
  }
  return result;
}

Napi::Value BpfObject::Programs(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  Napi::Array result = Napi::Array::New(env);
  bpf_program *program = nullptr;
  uint32_t at = 0;
  bpf_object__for_each_program(program, parts_.object.get()) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", bpf_program__name(program));
    entry.Set("section", bpf_program__section_name(program));
    entry.Set("type", static_cast<uint32_t>(bpf_program__type(program)));
    result.Set(at++, entry);
  }
  return result;
}

Napi::Value BpfObject::StructLayout(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const std::string name = RequireString(info[0], "structName");
  const btf *types = Types(env, "structLayout");
  const int id = btf__find_by_name_kind(types, name.c_str(), BTF_KIND_STRUCT);
  if (id < 0)
    Fail(env, "structLayout", ENOENT, About("no struct " + name + " in the object's BTF"));
  const btf_type *type = btf__type_by_id(types, static_cast<uint32_t>(id));
  std::vector<Member> members;
  CollectMembers(env, types, type, 0, 0, &members);
  Napi::Array list = Napi::Array::New(env, members.size());
  for (uint32_t i = 0; i < members.size(); i++) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", members[i].name);
    entry.Set("offset", members[i].offset);
    entry.Set("size", members[i].size);
    list.Set(i, entry);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("size", type->size);
  result.Set("members", list);
  return result;
}

Napi::Value BpfObject::EnumValues(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const std::string name = RequireString(info[0], "enumName");
  const btf *types = Types(env, "enumValues");
  Napi::Object result = Napi::Object::New(env);
  int id = btf__find_by_name_kind(types, name.c_str(), BTF_KIND_ENUM);
  if (id >= 0) {
    const btf_type *type = btf__type_by_id(types, static_cast<uint32_t>(id));
    const struct btf_enum *value = btf_enum(type);
    for (uint16_t i = 0; i < btf_vlen(type); i++, value++) {
      // Compilers before BTF's sign flag for enums (clang 16) leave it clear: take small negatives
      // as they are.
      result.Set(btf__name_by_offset(types, value->name_off), value->val);
    }
    return result;
  }
  id = btf__find_by_name_kind(types, name.c_str(), BTF_KIND_ENUM64);
  if (id < 0)
    Fail(env, "enumValues", ENOENT, About("no enum " + name + " in the object's BTF"));
  const btf_type *type = btf__type_by_id(types, static_cast<uint32_t>(id));
  const struct btf_enum64 *value = btf_enum64(type);
  for (uint16_t i = 0; i < btf_vlen(type); i++, value++) {
    const uint64_t bits = btf_enum64_value(value);
    result.Set(btf__name_by_offset(types, value->name_off),
               btf_kflag(type) ? static_cast<double>(static_cast<int64_t>(bits))
                               : static_cast<double>(bits));
  }
  return result;
}

Napi::Value BpfObject::SetMaxEntries(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireNotLoaded(env, "setMaxEntries");
  const std::string name = RequireString(info[0], "map");
  const uint32_t maxEntries = RequireUint32(info[1], "maxEntries", 1);
  const int status = bpf_map__set_max_entries(FindMap(env, "setMaxEntries", name), maxEntries);
  if (status < 0)
    Fail(env, "setMaxEntries", status, About(name));
  return env.Undefined();
}

Napi::Value BpfObject::ReuseMap(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireNotLoaded(env, "reuseMap");
  const std::string name = RequireString(info[0], "map");
  const BpfMap &existing = BpfMap::Require(info[1], "existing");
  bpf_map *map = FindMap(env, "reuseMap", name);
  // bpf_map__reuse_fd takes over the other map's layout without a word; the program was written for
  // its own. The number of entries may differ: a size is chosen once, when the map is made.
  const MapFacts &is = existing.Facts();
  const auto differs = [&](const char *what, uint32_t wanted, uint32_t found) {
    if (wanted != found)
      Fail(env, "reuseMap", EINVAL,
           About(name + ": parameter mismatch: " + what + " is " + std::to_string(found) +
                 ", the object wants " + std::to_string(wanted)));
  };
  differs("type", bpf_map__type(map), is.type);
  differs("key size", bpf_map__key_size(map), is.keySize);
  differs("value size", bpf_map__value_size(map), is.valueSize);
  differs("flags", bpf_map__map_flags(map), is.flags);
  const LibbpfLog log;
  const int status = bpf_map__reuse_fd(map, existing.FdNumber());
  if (status < 0)
    FailWith(env, "reuseMap", status, name, log);
  return env.Undefined();
}

Napi::Value BpfObject::SetRodata(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireNotLoaded(env, "setRodata");
  const std::string name = RequireString(info[0], "variable");
  const Bytes value = RequireBytes(info[1], "value");
  uint32_t offset = 0;
  uint32_t size = 0;
  if (!FindVariable(Types(env, "setRodata"), ".rodata", name, &offset, &size))
    Fail(env, "setRodata", ENOENT, About("no variable " + name + " in .rodata"));
  bpf_map *map = FindMap(env, "setRodata", ".rodata");
  size_t available = 0;
  // libbpf gives its own writable copy, only const by type, until the object is loaded.
  auto *memory =
      static_cast<uint8_t *>(const_cast<void *>(bpf_map__initial_value(map, &available)));
  if (memory == nullptr || offset > available || size > available - offset)
    Fail(env, "setRodata", EINVAL, About("broken .rodata"));
  if (value.length != size)
    ThrowRange(env, name + " must be " + std::to_string(size) + " bytes, not " +
                        std::to_string(value.length));
  memcpy(memory + offset, value.data, size);
  return env.Undefined();
}

Napi::Value BpfObject::SetAutoload(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireNotLoaded(env, "setAutoload");
  const std::string name = RequireString(info[0], "program");
  const bool autoload = RequireBoolean(info[1], "autoload");
  const int status = bpf_program__set_autoload(FindProgram(env, "setAutoload", name), autoload);
  if (status < 0)
    Fail(env, "setAutoload", status, About(name));
  return env.Undefined();
}

Napi::Value BpfObject::AddProgramFlags(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireNotLoaded(env, "addProgramFlags");
  const std::string name = RequireString(info[0], "program");
  const uint32_t flags = RequireUint32(info[1], "flags");
  bpf_program *program = FindProgram(env, "addProgramFlags", name);
  const int status = bpf_program__set_flags(program, bpf_program__flags(program) | flags);
  if (status < 0)
    Fail(env, "addProgramFlags", status, About(name));
  return env.Undefined();
}

Napi::Value BpfObject::Load(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireNotLoaded(env, "load");
  parts_.loadTried = true;
  const LibbpfLog log;
  const int status = bpf_object__load(parts_.object.get());
  if (status < 0) {
    FailureDetails details;
    details.about = bpf_object__name(parts_.object.get());
    details.log = log.Tail(kMostLogBytes);
    Fail(env, "load", status, details);
  }
  parts_.loaded = true;
  return env.Undefined();
}

Napi::Value BpfObject::Map(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const std::string name = RequireString(info[0], "name");
  RequireLoaded(env, "map");
  const int fd = bpf_map__fd(FindMap(env, "map", name));
  if (fd < 0)
    Fail(env, "map", ENOENT, About(name + " was not created"));
  return BpfMap::FromFd(env, "map", Duplicate(env, "map", fd));
}

Napi::Value BpfObject::Program(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  const std::string name = RequireString(info[0], "name");
  RequireLoaded(env, "program");
  const int fd = bpf_program__fd(FindProgram(env, "program", name));
  if (fd < 0)
    Fail(env, "program", ENOENT, About(name + " was not loaded"));
  return BpfProgram::FromFd(env, "program", Duplicate(env, "program", fd));
}

void BpfObject::Define(Napi::Env env) {
  Handle::Define(env, {
                          InstanceMethod<&BpfObject::Maps>("maps"),
                          InstanceMethod<&BpfObject::Programs>("programs"),
                          InstanceMethod<&BpfObject::StructLayout>("structLayout"),
                          InstanceMethod<&BpfObject::EnumValues>("enumValues"),
                          InstanceMethod<&BpfObject::SetMaxEntries>("setMaxEntries"),
                          InstanceMethod<&BpfObject::ReuseMap>("reuseMap"),
                          InstanceMethod<&BpfObject::SetRodata>("setRodata"),
                          InstanceMethod<&BpfObject::SetAutoload>("setAutoload"),
                          InstanceMethod<&BpfObject::AddProgramFlags>("addProgramFlags"),
                          InstanceMethod<&BpfObject::Load>("load"),
                          InstanceMethod<&BpfObject::Map>("map"),
                          InstanceMethod<&BpfObject::Program>("program"),
                          InstanceMethod("close", &BpfObject::Close),
                      });
}

Napi::Value OpenObject(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const Bytes given = RequireBytes(info[0], "bytes");
  const std::string name = RequireString(info[1], "name");
  if (given.length == 0 || given.length > kMostObjectBytes)
    ThrowRange(env, "bytes must be 1 to " + std::to_string(kMostObjectBytes) + " bytes, not " +
                        std::to_string(given.length));
  // libelf reads structures in place: a copy is aligned whatever the view's offset is.
  std::vector<uint64_t> image(given.length / sizeof(uint64_t) + 1);
  memcpy(image.data(), given.data, given.length);
  LIBBPF_OPTS(bpf_object_open_opts, options);
  options.object_name = name.c_str();
  const LibbpfLog log;
  bpf_object *object = bpf_object__open_mem(image.data(), given.length, &options);
  if (object == nullptr)
    FailWith(env, "openObject", errno, name, log);
  BpfObject::Parts parts;
  parts.object.reset(object);
  return BpfObject::Create(env, std::move(parts));
}

} // namespace falcodrop
