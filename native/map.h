// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/bpf.h>

#include <string>

#include "environment.h"
#include "fd.h"

namespace falcodrop {

/** What never changes in the life of a map; read from the kernel once, when its descriptor comes
 * in. */
struct MapFacts {
  uint32_t id = 0;
  std::string name;
  uint32_t type = 0;
  uint32_t keySize = 0;
  uint32_t valueSize = 0;
  uint32_t maxEntries = 0;
  uint32_t flags = 0;
  /** Bytes of one value as user space sees it: for per-CPU maps the values of all possible CPUs. */
  size_t userValueSize = 0;
};

class BpfMap : public Handle<BpfMap> {
public:
  static constexpr Class kClass = Class::Map;
  static constexpr const char *kName = "BpfMap";
  static constexpr napi_type_tag kTag = {0x8f1c64c05d4f4b1c, 0xa1f0f3f5be2f7d31};

  struct Parts {
    Fd fd;
    MapFacts facts;
  };

  static void Define(Napi::Env env);
  /** Asks the kernel what `fd` is; throws NativeError EINVAL when it is no map. */
  static Napi::Object FromFd(Napi::Env env, const char *operation, Fd fd);

  explicit BpfMap(const Napi::CallbackInfo &info);

  int FdNumber() const { return parts_.fd.Get(); }
  const MapFacts &Facts() const { return parts_.facts; }
  void Release() noexcept { parts_.fd.Reset(); }

private:
  Napi::Value Info(const Napi::CallbackInfo &info);
  Napi::Value Pin(const Napi::CallbackInfo &info);
  Napi::Value Lookup(const Napi::CallbackInfo &info);
  Napi::Value Update(const Napi::CallbackInfo &info);
  Napi::Value Delete(const Napi::CallbackInfo &info);
  Napi::Value NextKey(const Napi::CallbackInfo &info);
  Napi::Value LookupBatch(const Napi::CallbackInfo &info);
  Napi::Value UpdateBatch(const Napi::CallbackInfo &info);
  Napi::Value DeleteBatch(const Napi::CallbackInfo &info);
  Napi::Value Freeze(const Napi::CallbackInfo &info);
  Napi::Value Mmap(const Napi::CallbackInfo &info);

  Parts parts_;
};

/** An ARRAY map's memory, shared with the kernel and every other process that maps it. */
class MappedArray : public Handle<MappedArray> {
public:
  static constexpr Class kClass = Class::MappedArray;
  static constexpr const char *kName = "MappedArray";
  static constexpr napi_type_tag kTag = {0x3b8d2f6e0c0a4e57, 0x92c8b3fd4f60a9d4};

  /** Owns one mapping. */
  struct Parts {
    Parts() = default;
    Parts(Parts &&other) noexcept
        : memory(std::exchange(other.memory, nullptr)), length(other.length),
          mappedLength(other.mappedLength), writable(other.writable) {}
    Parts &operator=(Parts &&) = delete;
    ~Parts() { Unmap(); }
    void Unmap() noexcept;

    uint8_t *memory = nullptr;
    size_t length = 0;
    size_t mappedLength = 0;
    bool writable = false;
  };

  static void Define(Napi::Env env);
  explicit MappedArray(const Napi::CallbackInfo &info);
  void Release() noexcept { parts_.Unmap(); }

private:
  template <typename Word> Word *At(const Napi::CallbackInfo &info, bool writing);
  Napi::Value ByteLength(const Napi::CallbackInfo &info);
  Napi::Value Load32(const Napi::CallbackInfo &info);
  Napi::Value Load64(const Napi::CallbackInfo &info);
  Napi::Value Store32(const Napi::CallbackInfo &info);
  Napi::Value Store64(const Napi::CallbackInfo &info);
  Napi::Value Or32(const Napi::CallbackInfo &info);

  Parts parts_;
};

/** openMap of src/kernel/native.ts. */
Napi::Value OpenMap(const Napi::CallbackInfo &info);

} // namespace falcodrop
