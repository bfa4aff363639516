/**
 * Every error a user can meet: one table of stable codes, each with its exit status.
 * A sentence names the cause; a hint says the way out.
 *
 * Exit statuses: 0 done (also "unchanged"), 1 failed, 2 usage, 3 refused by the guard, 4 not there, 5 not permitted.
 */
export const exitStatusOf = {
  // usage
  usage: 2,
  address_invalid: 2,
  prefix_host_bits: 2,
  ports_invalid: 2,
  duration_invalid: 2,
  time_invalid: 2,
  import_invalid: 2,
  question_without_terminal: 2,
  config_invalid: 2,
  bundle_invalid: 2,
  source_read_only: 2,
  // refused by the guard
  refused: 3,
  allow_wide: 3,
  // not there
  not_blocked: 4,
  not_attached: 4,
  interface_missing: 4,
  not_allowed: 4,
  nothing_pending: 4,
  confirm_late: 4,
  falco_missing: 4,
  daemon_absent: 4,
  source_missing: 4,
  // not permitted
  not_permitted: 5,
  // failed
  failed: 1,
  declined: 1,
  addon_missing: 1,
  kernel_call: 1,
  pin_dir_missing: 1,
  not_bpffs: 1,
  foreign_mount_namespace: 1,
  layout_mismatch: 1,
  sizes_differ: 1,
  map_full: 1,
  scopes_full: 1,
  allows_full: 1,
  allow_file_invalid: 1,
  lock_busy: 1,
  samples_busy: 1,
  no_ethernet_header: 1,
  xdp_busy: 1,
  xdp_other_mode: 1,
  xdp_unsupported: 1,
  xdp_mtu: 1,
  xdp_attach: 1,
  program_rejected: 1,
  file_unreadable: 1,
  config_exists: 1,
  listen_failed: 1,
  journal_unavailable: 1,
  authentication_missing: 1,
  tls_invalid: 1,
  body_not_alert: 1,
  test_not_sent: 1,
  test_not_received: 1,
  test_not_decided: 1,
  test_not_in_map: 1,
  test_not_recorded: 1,
  test_not_withdrawn: 1,
  falco_config: 1,
  falco_unfit: 1,
  falco_unsafe_path: 1,
  falco_validate: 1,
  falco_restart: 1,
  ledger_missing: 1,
  ledger_not_database: 1,
  ledger_corrupt: 1,
  ledger_newer: 1,
  ledger_read_only: 1,
  ledger_full: 1,
  ledger_locked: 1,
  ledger_io: 1,
  ledger_unsafe_path: 1,
  ledger_behind: 1,
  ledger_backup: 1,
} as const satisfies Record<string, 1 | 2 | 3 | 4 | 5>;

export type ErrorCode = keyof typeof exitStatusOf;

export class FalcodropError extends Error {
  readonly code: ErrorCode;
  /** What the user can do about it; one sentence. */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, hint?: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'FalcodropError';
    this.code = code;
    this.hint = hint;
  }

  get exitStatus(): number {
    return exitStatusOf[this.code];
  }
}
