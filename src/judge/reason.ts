/**
 * Every reason a decision can carry: one table of stable codes, the verdict each belongs to, and what it means.
 * The codes are part of the output (`replay --json`, audit): add, never rename.
 */
export type Verdict = 'block' | 'refuse' | 'ignore';

export const reasons = {
  offender: { verdict: 'block', sentence: 'an offender is named and nothing speaks against acting on it' },

  own_address: { verdict: 'refuse', sentence: 'the address is this host itself, loopback, or a container on it' },
  ssh_session: { verdict: 'refuse', sentence: 'somebody is logged in over SSH from there' },
  gateway: { verdict: 'refuse', sentence: 'the address is a gateway of this host' },
  resolver: { verdict: 'refuse', sentence: 'the address is a name server this host asks' },
  protected: { verdict: 'refuse', sentence: 'the address is on the list of protected ones' },
  never_block: {
    verdict: 'refuse',
    sentence: 'unspecified, multicast, broadcast, link-local, 0.0.0.0/8 and 240.0.0.0/4 are never blocked',
  },
  private: { verdict: 'refuse', sentence: 'private ranges are not blocked unless allowed' },
  too_wide: { verdict: 'refuse', sentence: 'the prefix is wider than the widest that may be blocked' },
  test_address: {
    verdict: 'refuse',
    sentence: 'a test alert is about a documentation address (RFC 5737), and this is none',
  },
  port_zero: { verdict: 'refuse', sentence: 'port 0 is a connectivity probe of the C library, not a connection' },
  ambiguous: { verdict: 'refuse', sentence: 'the alert does not prove which of its two addresses is the offender' },
  other_host: { verdict: 'refuse', sentence: 'the alert is of another host, or of none over the network' },
  stale: { verdict: 'refuse', sentence: 'the alert is older than max_alert_age' },
  future: { verdict: 'refuse', sentence: 'the alert is dated too far in the future' },
  undated: { verdict: 'refuse', sentence: 'the alert has no readable time, so its age is not known' },

  rule_never: { verdict: 'ignore', sentence: 'a policy says that this rule never names an offender' },
  not_network: { verdict: 'ignore', sentence: 'the alert is not about a network connection' },
  no_tuple: { verdict: 'ignore', sentence: 'the alert is about the network but prints no pair of addresses' },
  listening: { verdict: 'ignore', sentence: 'a socket was bound or listens: there is nobody on the other side' },
  unix_socket: { verdict: 'ignore', sentence: 'both ends of a unix socket are on this host' },
  plugin_source: { verdict: 'ignore', sentence: 'alerts of plugin sources are off unless a policy names them' },
} as const satisfies Record<string, { readonly verdict: Verdict; readonly sentence: string }>;

export type Reason = keyof typeof reasons;
type ReasonOf<V extends Verdict> = { [R in Reason]: (typeof reasons)[R]['verdict'] extends V ? R : never }[Reason];
export type RefuseReason = ReasonOf<'refuse'>;
export type IgnoreReason = ReasonOf<'ignore'>;
