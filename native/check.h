// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <cmath>
#include <cstdint>
#include <string>

/**
 * Every check of an argument, with fixed wording: TypeError for the wrong type, RangeError for the
 * right type with the wrong size or value. Pointers from RequireBytes are good only until
 * JavaScript runs again (a getter may detach or shrink the buffer): read all properties of an
 * options object first, take the bytes last.
 */
namespace falcodrop {

struct Bytes {
  const uint8_t *data;
  size_t length;
};

[[noreturn]] inline void ThrowType(Napi::Env env, const std::string &message) {
  throw Napi::TypeError::New(env, message);
}

[[noreturn]] inline void ThrowRange(Napi::Env env, const std::string &message) {
  throw Napi::RangeError::New(env, message);
}

/** A Uint8Array (Buffer is one) of any length. A detached one has length 0. */
inline Bytes RequireBytes(Napi::Value value, const char *name) {
  const Napi::Env env = value.Env();
  if (!value.IsTypedArray())
    ThrowType(env, std::string(name) + " must be a Uint8Array");
  napi_typedarray_type type;
  size_t length = 0;
  void *data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array)
    ThrowType(env, std::string(name) + " must be a Uint8Array");
  if (data == nullptr)
    length = 0;
  return {static_cast<const uint8_t *>(data), length};
}

/** A Uint8Array of exactly `length` bytes: the kernel reads that much, whatever the buffer holds.
 */
inline Bytes RequireBytes(Napi::Value value, const char *name, size_t length) {
  const Bytes bytes = RequireBytes(value, name);
  if (bytes.length != length)
    ThrowRange(value.Env(), std::string(name) + " must be " + std::to_string(length) +
                                " bytes, not " + std::to_string(bytes.length));
  return bytes;
}

/** `bytes` as elements of `size` bytes each; the number of elements. Refuses a remainder. */
inline uint32_t RequireElements(Napi::Env env, const Bytes &bytes, const char *name, size_t size) {
  if (size == 0 || bytes.length % size != 0 || bytes.length / size > UINT32_MAX)
    ThrowRange(env, std::string(name) + " must be a multiple of " + std::to_string(size) +
                        " bytes, not " + std::to_string(bytes.length));
  return static_cast<uint32_t>(bytes.length / size);
}

/** An integer from `least` to `most`, both below 2^53. */
inline int64_t RequireInteger(Napi::Value value, const char *name, int64_t least, int64_t most) {
  const Napi::Env env = value.Env();
  if (!value.IsNumber())
    ThrowType(env, std::string(name) + " must be a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= static_cast<double>(least) && number <= static_cast<double>(most)) ||
      number != std::floor(number))
    ThrowRange(env, std::string(name) + " must be an integer from " + std::to_string(least) +
                        " to " + std::to_string(most));
  return static_cast<int64_t>(number);
}

inline uint32_t RequireUint32(Napi::Value value, const char *name, uint32_t least = 0,
                              uint32_t most = UINT32_MAX) {
  return static_cast<uint32_t>(RequireInteger(value, name, least, most));
}

/** As RequireUint32, with 0 for undefined. */
inline uint32_t OptionalFlags(Napi::Value value, const char *name) {
  return value.IsUndefined() ? 0 : RequireUint32(value, name);
}

/** Interface indices are positive 32-bit integers. */
inline int RequireIfindex(Napi::Value value) {
  return static_cast<int>(RequireInteger(value, "ifindex", 1, INT32_MAX));
}

inline uint64_t RequireUint64(Napi::Value value, const char *name) {
  const Napi::Env env = value.Env();
  if (!value.IsBigInt())
    ThrowType(env, std::string(name) + " must be a bigint");
  bool lossless = false;
  const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless)
    ThrowRange(env, std::string(name) + " must be a bigint from 0 to 2^64 - 1");
  return number;
}

/** Not empty, no NUL inside, at most 4095 bytes (PATH_MAX less its NUL). */
inline std::string RequireString(Napi::Value value, const char *name) {
  const Napi::Env env = value.Env();
  if (!value.IsString())
    ThrowType(env, std::string(name) + " must be a string");
  constexpr size_t kMost = 4095;
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok || length == 0 ||
      length > kMost)
    ThrowRange(env, std::string(name) + " must have 1 to " + std::to_string(kMost) + " bytes");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos)
    ThrowRange(env, std::string(name) + " must not contain NUL");
  return text;
}

inline bool RequireBoolean(Napi::Value value, const char *name) {
  if (!value.IsBoolean())
    ThrowType(value.Env(), std::string(name) + " must be a boolean");
  return value.As<Napi::Boolean>().Value();
}

inline Napi::Function RequireFunction(Napi::Value value, const char *name) {
  if (!value.IsFunction())
    ThrowType(value.Env(), std::string(name) + " must be a function");
  return value.As<Napi::Function>();
}

inline Napi::Object RequireObject(Napi::Value value, const char *name) {
  if (!value.IsObject() || value.IsFunction())
    ThrowType(value.Env(), std::string(name) + " must be an object");
  return value.As<Napi::Object>();
}

/** True for `yes`, false for `no`; a TypeError for everything else. */
inline bool RequireChoice(Napi::Value value, const char *name, const char *yes, const char *no) {
  if (value.IsString()) {
    const std::string text = value.As<Napi::String>().Utf8Value();
    if (text == yes)
      return true;
    if (text == no)
      return false;
  }
  ThrowType(value.Env(), std::string(name) + " must be '" + yes + "' or '" + no + "'");
}

} // namespace falcodrop
