/**
 * The native addon, declared in one place. Nothing else loads it.
 *
 * The addon is a thin, general binding over libbpf, rtnetlink and three system calls Node lacks. It knows nothing of
 * falcodrop's maps. Rules that hold for all of it:
 *
 * - Every key, value and batch buffer is checked against the kernel's own map info on every call; a wrong length throws
 *   a RangeError (the kernel would read or write past the end).
 * - A failed kernel or libbpf call throws a {@link NativeError}: `operation`, `errno` (positive number), `code` ("ENOENT"), and for
 *   batches `count`, how many elements were done before it stopped. A wrong argument type throws a TypeError.
 * - Handles own a file descriptor; `close()` is idempotent, GC and the end of the environment close too, and any method
 *   (and `info`) after `close()` throws an Error saying so. A ring buffer and a watch stay open, whoever holds them, until
 *   `close()` or the end of the environment.
 * - What a callback throws becomes an uncaught exception; only `consume()` throws it on to its caller. A callback may
 *   close its own handle.
 */
import { createRequire } from 'node:module';
import { FalcodropError } from '../errors.ts';

export interface NativeError extends Error {
  readonly operation: string;
  readonly errno: number;
  /** Symbolic name, e.g. "EBUSY". */
  readonly code: string;
  /** Batch calls only: elements done before the failure. */
  readonly count?: number;
  /** `BpfObject.load()` only: the tail (≤ 16 KiB) of the verifier's log. */
  readonly log?: string;
}

/** A member of a C struct, read from the object's BTF. Sizes and offsets in bytes. */
export interface StructMember {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

export interface MapInfo {
  readonly id: number;
  readonly name: string;
  /** `enum bpf_map_type` of uapi/linux/bpf.h: 1 HASH, 2 ARRAY, 6 PERCPU_ARRAY, 11 LPM_TRIE, 27 RINGBUF. */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** From /proc/self/fdinfo; a frozen map refuses updates from user space, root's too. */
  readonly frozen: boolean;
}

export interface ProgramInfo {
  readonly id: number;
  readonly name: string;
  /** `enum bpf_prog_type`: 1 SOCKET_FILTER, 6 XDP, 31 SYSCALL. */
  readonly type: number;
  /** 16 hexadecimal digits, a hash of the instructions. */
  readonly tag: string;
  /** The maps that it uses, in no particular order. */
  readonly mapIds: readonly number[];
}

export interface LinkInfo {
  readonly id: number;
  readonly programId: number;
  /** XDP links only; 0 when the device is gone. */
  readonly ifindex: number;
}

/** An opened, not yet loaded, then loaded, BPF object file. */
export interface BpfObject {
  /** The declared maps (not .rodata and the like), in no particular order. Before `load()` sizes are the object file's. */
  maps(): readonly { name: string; type: number; keySize: number; valueSize: number; maxEntries: number }[];
  programs(): readonly { name: string; section: string; type: number }[];
  /**
   * Members of a struct in the object's BTF; those of anonymous structs and unions inside are lifted to their place, named
   * ones stay whole. Throws NativeError ENOENT for an unknown struct, EINVAL for bit fields.
   */
  structLayout(structName: string): { readonly size: number; readonly members: readonly StructMember[] };
  /** The value of an enumerator in the object's BTF (`enum …` constants), keyed by name. Throws ENOENT for an unknown enum. */
  enumValues(enumName: string): Readonly<Record<string, number>>;
  /** All setters: ENOENT for an unknown name, EBUSY once `load()` was called. */
  setMaxEntries(map: string, maxEntries: number): void;
  /**
   * Use an existing map instead of creating one: `bpf_map__reuse_fd`. EINVAL when type, key size, value size or flags
   * differ; the number of entries is taken over from the existing map.
   */
  reuseMap(map: string, existing: BpfMap): void;
  /** Writes one variable of `.rodata` before load; `value` must have exactly the variable's size (RangeError). */
  setRodata(variable: string, value: Uint8Array): void;
  setAutoload(program: string, autoload: boolean): void;
  /** Ors bits into the program's load flags (`BPF_F_XDP_HAS_FRAGS` is 1 << 5). */
  addProgramFlags(program: string, flags: number): void;
  /** Once only: after a failure open the object anew. */
  load(): void;
  /** After load: handles of their own (dup), independent of the object. */
  map(name: string): BpfMap;
  program(name: string): BpfProgram;
  close(): void;
}

export interface BpfMap {
  readonly info: MapInfo;
  /** BPF_OBJ_PIN. EPERM for a name with a dot (bpffs refuses it) and outside a bpffs, EEXIST when taken. */
  pin(path: string): void;
  /** Null when there is no such key. Per-CPU maps: values of all possible CPUs one after the other, each rounded up to 8 bytes. */
  lookup(key: Uint8Array): Buffer | null;
  /** `flags`: 0 any, 1 NOEXIST, 2 EXIST. E2BIG or ENOSPC when full. */
  update(key: Uint8Array, value: Uint8Array, flags?: number): void;
  /** False when there was no such key. */
  delete(key: Uint8Array): boolean;
  /** The key after `key` (null: the first); null at the end. If `key` was deleted meanwhile the kernel starts over. */
  nextKey(key: Uint8Array | null): Buffer | null;
  /**
   * LOOKUP_BATCH. `cursor` null starts; returns the cursor for the next call, or null when done. The buffers hold `count`
   * keys and values one after the other. ENOSPC when one hash bucket holds more than `limit`: the caller grows it.
   */
  lookupBatch(
    cursor: Buffer | null,
    limit: number,
  ): { count: number; keys: Buffer; values: Buffer; cursor: Buffer | null };
  /** UPDATE_BATCH; `keys` and `values` hold the same number of elements. Throws with `count` done. Returns the count. */
  updateBatch(keys: Uint8Array, values: Uint8Array, flags?: number): number;
  /** DELETE_BATCH; stops at the first absent key with ENOENT and `count` done. */
  deleteBatch(keys: Uint8Array): number;
  /** BPF_MAP_FREEZE: afterwards user space cannot change the map. */
  freeze(): void;
  /**
   * mmap of an ARRAY created with BPF_F_MMAPABLE (EINVAL for others). Elements lie at multiples of 8 bytes. The mapping
   * lives as long as the returned handle, also after the map's `close()`; of a frozen map it can
   * only be read, a store throws NativeError EPERM. The kernel maps nothing that was opened read-only (EACCES).
   */
  mmap(): MappedArray;
  close(): void;
}

/** Shared memory with the kernel: every access is one aligned machine word. Offsets in bytes; RangeError when outside or unaligned. */
export interface MappedArray {
  readonly byteLength: number;
  load32(offset: number): number;
  load64(offset: number): bigint;
  store32(offset: number, value: number): void;
  store64(offset: number, value: bigint): void;
  /** `__atomic_fetch_or`; returns the word before. */
  or32(offset: number, mask: number): number;
  close(): void;
}

export interface BpfProgram {
  readonly info: ProgramInfo;
  pin(path: string): void;
  /**
   * BPF_PROG_TEST_RUN. `data`: packet (XDP, socket filter; 14 bytes at least), `context`: read and written back (syscall programs).
   * `durationNs` is the mean of `repeat` runs, for a syscall program the whole system call. `context` is copied, the changed
   * one comes back in the result; a syscall program takes neither `data` nor `repeat` (TypeError). `data` in the result is the packet afterwards (empty for syscall programs).
   */
  testRun(options: { data?: Uint8Array; context?: Uint8Array; repeat?: number }): {
    returnValue: number;
    data: Buffer;
    context: Buffer;
    durationNs: number;
  };
  close(): void;
}

export interface BpfLink {
  readonly info: LinkInfo;
  pin(path: string): void;
  /** BPF_LINK_UPDATE: atomic, no packet in between. ENOLINK when the device is gone. */
  update(program: BpfProgram): void;
  /** BPF_LINK_DETACH: the link stays as an object, without a device. */
  detach(): void;
  close(): void;
}

/** Ring buffer consumer on the event loop (uv_poll on libbpf's epoll descriptor); keeps the loop alive until closed. */
export interface RingBuffer {
  /** Consumes what is there now without waiting; returns the number of records. Not from its own callback (Error). */
  consume(): number;
  close(): void;
}

/** IFF_* and ARPHRD_* as in uapi/linux/if.h and if_arp.h. */
export interface Link {
  readonly ifindex: number;
  readonly name: string;
  readonly flags: number;
  /** ARPHRD_*: 1 Ethernet, 772 loopback, 65534 none (tun). */
  readonly type: number;
  readonly mtu: number;
  /** IFLA_INFO_KIND: "veth", "bridge", …; null for physical devices. */
  readonly kind: string | null;
  /** IFLA_MASTER: the bridge or bond this is a port of; 0 if none. */
  readonly master: number;
  /** IFLA_LINK: the lower device (VLAN) or peer (veth); 0 if none. `lowerElsewhere`: it is in another network namespace. */
  readonly lower: number;
  readonly lowerElsewhere: boolean;
  readonly txQueues: number;
  readonly rxQueues: number;
  /** IFLA_XDP: which program holds the hook. */
  readonly xdp: { readonly mode: 'none' | 'native' | 'generic' | 'offload' | 'multi'; readonly programId: number };
}

export interface InterfaceAddress {
  readonly ifindex: number;
  readonly family: 4 | 6;
  /** Network order, 4 or 16 bytes. */
  readonly address: Buffer;
  readonly prefixLength: number;
  /** RT_SCOPE_*: 0 universe (global), 253 link, 254 host. */
  readonly scope: number;
}

export interface Route {
  readonly family: 4 | 6;
  /** RTN_*: 1 unicast, 2 local, 3 broadcast, 4 anycast, 5 multicast, 6 blackhole, 7 unreachable, 8 prohibit. */
  readonly type: number;
  /** Routing table id; 254 main, 255 local. */
  readonly table: number;
  readonly destination: Buffer;
  readonly prefixLength: number;
  /** RT_SCOPE_*: 253 link (directly connected). */
  readonly scope: number;
  /**
   * Next hops, multipath ones and those of nexthop objects too. `gateway` null = directly connected; may be of the other
   * family (RTA_VIA).
   */
  readonly nextHops: readonly { readonly ifindex: number; readonly gateway: Buffer | null }[];
}

/** A dump is retried by the addon when the kernel reports NLM_F_DUMP_INTR (the tables changed meanwhile), at most 8 times. */
export interface Netlink {
  links(): Link[];
  addresses(): InterfaceAddress[];
  /** All tables, both families. */
  routes(): Route[];
  /**
   * Calls back (coalesced: once a loop turn) after links, addresses, routes or nexthop objects changed, or events were lost
   * (ENOBUFS). Does not keep the event loop alive.
   */
  watch(onChange: () => void): { close(): void };
}

/** An flock on a directory or file. Freed by `release()`, GC, or the end of the process (also by kill -9). */
export interface FileLock {
  release(): void;
}

export interface Native {
  /** Library versions: libbpf's, and the addon's own API number. */
  readonly versions: { readonly libbpf: string; readonly api: number };

  openObject(bytes: Uint8Array, name: string): BpfObject;
  /** BPF_OBJ_GET; `readOnly` asks for BPF_F_RDONLY (a 0640 pin opened by its group). */
  openMap(path: string, options?: { readOnly?: boolean }): BpfMap;
  openProgram(path: string): BpfProgram;
  openLink(path: string): BpfLink;
  /** By id; needs CAP_SYS_ADMIN (EPERM else), ENOENT when it is gone. */
  programInfoById(id: number): ProgramInfo;
  /** The bpf_link that holds this interface's XDP hook, null if none does (walks link ids; CAP_SYS_ADMIN). ENODEV without the interface. */
  linkHolding(ifindex: number): LinkInfo | null;

  /**
   * BPF_LINK_CREATE for XDP. `mode` native = XDP_FLAGS_DRV_MODE, generic = XDP_FLAGS_SKB_MODE. EBUSY: a program is there in
   * this mode, EEXIST: in the other one; EINVAL also when there is no such interface; EOPNOTSUPP: no native mode.
   */
  attachXdp(program: BpfProgram, ifindex: number, mode: 'native' | 'generic'): BpfLink;
  /**
   * Asks the kernel over netlink (XDP_FLAGS_UPDATE_IF_NOEXIST) to attach, only to hear its own sentence: the extack text of the
   * refusal, or null if it gave none. If it succeeds after all the program is taken off again at once and null is returned.
   */
  explainXdpRefusal(program: BpfProgram, ifindex: number, mode: 'native' | 'generic'): string | null;

  ringBuffer(map: BpfMap, onRecord: (record: Buffer) => void): RingBuffer;
  readonly netlink: Netlink;

  /** flock(2) LOCK_EX or LOCK_SH with LOCK_NB; null when somebody else holds it. Opens `path` read-only (a directory will do). */
  tryLock(path: string, mode: 'exclusive' | 'shared'): FileLock | null;
  /**
   * The same, waited for at most `timeoutMs` (0 tries once); resolves to null when the time is over, rejects with a
   * NativeError when `path` cannot be opened. The event loop stays free (a timer tries again every 1 to 5 ms); waiting
   * keeps the loop alive but never holds up `process.exit()`. Waiters are not served in order.
   */
  lock(path: string, mode: 'exclusive' | 'shared', timeoutMs: number): Promise<FileLock | null>;

  /**
   * One datagram to a unix socket, never waiting (EAGAIN when the receiver's queue is full); a path beginning with "@" is
   * an abstract name (sd_notify, journald).
   */
  sendUnixDatagram(path: string, message: Uint8Array): void;
  /** mount -t bpf bpf TARGET, mode as given (octal number; bpffs adds the sticky bit), nosuid,nodev,noexec. */
  mountBpffs(target: string, mode: number): void;
  /** umount2(target), with MNT_DETACH when lazy. */
  unmount(target: string, lazy?: boolean): void;
  /** CLOCK_MONOTONIC and CLOCK_BOOTTIME in ns, read one right after the other. */
  clocks(): { readonly monotonicNs: bigint; readonly boottimeNs: bigint };
  /** Waits for an RCU-like grace period: membarrier(MEMBARRIER_CMD_GLOBAL). Blocks the thread, some 10 ms. */
  membarrier(): void;
  /**
   * Whether nobody is at the other end any more: the reader of a pipe is gone, the terminal or the connection hung up
   * (poll(2): POLLERR, POLLHUP), or the descriptor is closed. Never waits. For who writes seldom and would hear of it late.
   */
  isHungUp(descriptor: number): boolean;
  /**
   * renameat2(2) RENAME_EXCHANGE: at no moment is either name without a file or directory. EXDEV: not on one file system;
   * EBUSY: one is a mount point; EINVAL: the file system can not.
   */
  exchangePaths(one: string, other: string): void;
}

const require = createRequire(import.meta.url);

/** Beside the bundle in dist/, or in node-gyp's folder when run from the sources. */
const candidates = ['./falcodrop.node', '../../build/Release/falcodrop.node'];

let loaded: Native | undefined;

/** Loads the addon once. Throws `addon_missing` when it is not built or does not fit this Node. */
export function native(): Native {
  if (loaded !== undefined) return loaded;
  let cause: unknown;
  for (const candidate of candidates) {
    try {
      loaded = require(candidate) as Native;
      return loaded;
    } catch (error) {
      cause ??= error;
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') {
        cause = error;
        break;
      }
    }
  }
  const detail = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause);
  throw new FalcodropError(
    'addon_missing',
    `the native addon could not be loaded: ${detail}`,
    'run "make build"',
    cause,
  );
}

/** True for errors thrown by the addon for a failed kernel call. */
export function isNativeError(error: unknown): error is NativeError {
  return error instanceof Error && typeof (error as Partial<NativeError>).errno === 'number' && 'operation' in error;
}
