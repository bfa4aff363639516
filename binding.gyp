{
  # libbpf comes from the distribution and is linked dynamically: Debian's libbpf.a is not position independent.
  # C++ exceptions are used inside the addon and stop at its edge: NODE_ADDON_API_CPP_EXCEPTIONS_ALL turns every
  # std::exception into a JavaScript error, and callbacks handed to C (libbpf, libuv) are noexcept.
  'variables': {
    # node-gyp rebuild -- -Dfalcodrop_sanitize=address,undefined
    'falcodrop_sanitize%': '',
  },
  'targets': [
    {
      'target_name': 'falcodrop',
      'sources': [
        'native/environment.cc',
        'native/error.cc',
        'native/init.cc',
        'native/link.cc',
        'native/lock.cc',
        'native/map.cc',
        'native/mapped.cc',
        'native/netlink.cc',
        'native/object.cc',
        'native/pin.cc',
        'native/program.cc',
        'native/ringbuf.cc',
        'native/system.cc',
      ],
      'include_dirs': ["<!@(node -p \"require('node-addon-api').include_dir\")"],
      'defines': [
        'NAPI_VERSION=8',
        'NODE_ADDON_API_CPP_EXCEPTIONS',
        'NODE_ADDON_API_CPP_EXCEPTIONS_ALL',
        'NODE_ADDON_API_DISABLE_DEPRECATED',
        # A worker that is being terminated refuses new exceptions: not a reason to abort.
        'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
      ],
      'cflags!': ['-fno-exceptions', '-O3'],
      'cflags_cc!': ['-fno-exceptions', '-fno-rtti', '-std=gnu++20', '-std=gnu++17', '-O3'],
      'cflags_cc': [
        '-std=c++17',
        '-Wall',
        '-Wextra',
        '-O2',
        '-fvisibility=hidden',
        '-fstack-protector-strong',
      ],
      'ldflags': ['-Wl,-z,relro,-z,now'],
      'libraries': ['-lbpf'],
      'conditions': [
        ['falcodrop_sanitize!=""', {
          'cflags_cc': ['-fsanitize=<(falcodrop_sanitize)', '-fno-omit-frame-pointer', '-g'],
          'ldflags': ['-fsanitize=<(falcodrop_sanitize)'],
        }],
      ],
    },
  ],
}
