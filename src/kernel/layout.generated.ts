// Generated from the BPF object by scripts/layout.ts; do not edit.
// biome-ignore-all format: generated

export const FALCODROP_FORMAT = 3;
export const MAX_SLOTS = 64;
export const MAX_SCOPES = 256;
export const SCOPE_PORTS = 16;
export const NEVER_DROP_PORTS = 16;

/** Bytes: the size of each struct and the [offset, size] of its members. */
export const layout = {
  block: { size: 48, members: { drop_until: [0, 8], count_until: [8, 8], action: [16, 1], owners: [17, 1], scope: [18, 2], prefix_length: [20, 1], reserved: [21, 3], packets: [24, 8], bytes: [32, 8], last_seen: [40, 8] } },
  allow: { size: 16, members: { until: [0, 8], prefix_length: [8, 1], reserved: [9, 7] } },
  port: { size: 4, members: { protocol: [0, 1], reserved: [1, 1], number: [2, 2] } },
  scope: { size: 64, members: { ports: [0, 64] } },
  cidr_v4: { size: 12, members: { prefix_length: [0, 4], address: [4, 4], reserved: [8, 4] } },
  cidr_v6: { size: 20, members: { prefix_length: [0, 4], address: [4, 16] } },
  hints: { size: 16, members: { skew_ns: [0, 8], prefixes: [8, 4], reserved: [12, 4] } },
  settings: { size: 88, members: { format: [0, 4], mode: [4, 4], deadline: [8, 8], mode_after: [16, 4], sampling: [20, 4], never_drop: [24, 64] } },
  total: { size: 16, members: { packets: [0, 8], bytes: [8, 8] } },
  interface_slot: { size: 4, members: { ifindex: [0, 4] } },
  sample: { size: 64, members: { at: [0, 8], packets: [8, 8], ifindex: [16, 4], length: [20, 4], family: [24, 1], protocol: [25, 1], kind: [26, 1], prefix_length: [27, 1], source_port: [28, 2], destination_port: [30, 2], source: [32, 16], destination: [48, 16] } },
  change: { size: 48, members: { drop_until: [0, 8], count_until: [8, 8], operation: [16, 4], family: [20, 1], prefix_length: [21, 1], action: [22, 1], owners: [23, 1], scope: [24, 2], reserved: [26, 6], address: [32, 16] } },
} as const;

export const block_owner = { OWNER_HAND: 1, OWNER_POLICY: 2, OWNER_FEED: 4, OWNER_WITHDRAWN: 128 } as const;
export const hint_prefixes = { PREFIXES_V4: 1, PREFIXES_V6: 2 } as const;
export const mode = { MODE_ENFORCE: 0, MODE_MONITOR: 1, MODE_OFF: 2 } as const;
export const count_kind = { PASS_CLEAN: 0, PASS_ALLOWED: 1, PASS_NEVER_DROP: 2, PASS_OTHER_PORT: 3, PASS_MONITORED: 4, PASS_MODE_MONITOR: 5, PASS_MODE_OFF: 6, PASS_NOT_IP: 7, PASS_TAGS: 8, PASS_SHORT_LINK: 9, PASS_SHORT_IPV4: 10, PASS_SHORT_IPV6: 11, DROP_ADDRESS: 12, DROP_PREFIX: 13, ALSO_MALFORMED: 14, ALSO_SAMPLE_LOST: 15, COUNT_KINDS: 16 } as const;
export const change_operation = { CHANGE_RAISE: 0, CHANGE_SET: 1 } as const;
export const change_result = { CHANGE_ABSENT: 0, CHANGE_DONE: 1, CHANGE_UNCHANGED: 2, CHANGE_INVALID: 3 } as const;
