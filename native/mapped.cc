// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <cerrno>

#include "error.h"
#include "map.h"

namespace falcodrop {

void MappedArray::Parts::Unmap() noexcept {
  if (memory != nullptr)
    munmap(std::exchange(memory, nullptr), mappedLength);
}

MappedArray::MappedArray(const Napi::CallbackInfo &info)
    : Handle(info), parts_(TakeParts<Parts>()) {}

/** The word at info[0]; checked before any other argument. A store into read-only pages would be a
 * SIGSEGV. */
template <typename Word> Word *MappedArray::At(const Napi::CallbackInfo &info, bool writing) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  if (parts_.length < sizeof(Word))
    ThrowRange(env, "the array is smaller than one word");
  const int64_t offset =
      RequireInteger(info[0], "offset", 0, static_cast<int64_t>(parts_.length - sizeof(Word)));
  if (offset % static_cast<int64_t>(sizeof(Word)) != 0)
    ThrowRange(env, "offset must be a multiple of " + std::to_string(sizeof(Word)));
  if (writing && !parts_.writable)
    Fail(env, "store", EPERM, About("the map is frozen"));
  return reinterpret_cast<Word *>(parts_.memory + offset);
}

Napi::Value MappedArray::ByteLength(const Napi::CallbackInfo &info) {
  RequireOpen(info.Env());
  return Napi::Number::New(info.Env(), static_cast<double>(parts_.length));
}

// Sequentially consistent throughout: writers in other processes order a bit here against an insert
// there.

Napi::Value MappedArray::Load32(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(),
                           __atomic_load_n(At<uint32_t>(info, false), __ATOMIC_SEQ_CST));
}

Napi::Value MappedArray::Load64(const Napi::CallbackInfo &info) {
  const uint64_t word = __atomic_load_n(At<uint64_t>(info, false), __ATOMIC_SEQ_CST);
  return Napi::BigInt::New(info.Env(), word);
}

Napi::Value MappedArray::Store32(const Napi::CallbackInfo &info) {
  uint32_t *word = At<uint32_t>(info, true);
  __atomic_store_n(word, RequireUint32(info[1], "value"), __ATOMIC_SEQ_CST);
  return info.Env().Undefined();
}

Napi::Value MappedArray::Store64(const Napi::CallbackInfo &info) {
  uint64_t *word = At<uint64_t>(info, true);
  __atomic_store_n(word, RequireUint64(info[1], "value"), __ATOMIC_SEQ_CST);
  return info.Env().Undefined();
}

Napi::Value MappedArray::Or32(const Napi::CallbackInfo &info) {
  uint32_t *word = At<uint32_t>(info, true);
  const uint32_t mask = RequireUint32(info[1], "mask");
  return Napi::Number::New(info.Env(), __atomic_fetch_or(word, mask, __ATOMIC_SEQ_CST));
}

void MappedArray::Define(Napi::Env env) {
  Handle::Define(env, {
                          InstanceAccessor<&MappedArray::ByteLength>("byteLength"),
                          InstanceMethod<&MappedArray::Load32>("load32"),
                          InstanceMethod<&MappedArray::Load64>("load64"),
                          InstanceMethod<&MappedArray::Store32>("store32"),
                          InstanceMethod<&MappedArray::Store64>("store64"),
                          InstanceMethod<&MappedArray::Or32>("or32"),
                          InstanceMethod("close", &MappedArray::Close),
                      });
}

} // namespace falcodrop
