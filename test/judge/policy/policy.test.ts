import { describe, expect, test } from 'vitest';
import { builtinPolicies } from '../../../src/judge/policy/builtin.ts';
import { type Action, actionOf, policyFor, type Sighting } from '../../../src/judge/policy/policy.ts';

const inbound: Sighting = { way: 'inbound', protocol: 'tcp', event: 'accept4', public: true, proven: true };
const outbound: Sighting = { way: 'outbound', protocol: 'tcp', event: 'connect', public: true, proven: true };

const act = (rule: string, sighting: Sighting): Action => actionOf(policyFor(rule, builtinPolicies), sighting);

const shell = 'Redirect STDOUT/STDIN to Network Connection in Container';
const canary = 'Connection to Canary Port';

describe('the built-in table', () => {
  test.each<[string, Sighting, Action]>([
    [shell, { ...outbound, event: 'dup2' }, 'enforce'],
    [shell, { ...outbound, event: 'dup2', protocol: null }, 'enforce'],
    [shell, { ...outbound, event: null }, 'enforce'],
    [shell, { ...outbound, event: 'dup2', public: false }, 'monitor'],
    [shell, { ...inbound, event: 'dup2' }, 'monitor'],
    [shell, { ...inbound, event: 'dup2', way: null }, 'monitor'],
    [shell, { ...outbound, event: 'dup2', protocol: 'udp' }, 'observe'],
    [shell.toLowerCase(), { ...outbound, event: 'dup2' }, 'enforce'],
    ['Outbound Connection to C2 Servers', outbound, 'enforce'],
    ['Outbound Connection to C2 Servers', { ...outbound, proven: false }, 'observe'],
    ['Outbound Connection to C2 Servers', inbound, 'observe'],
    [canary, inbound, 'enforce'],
    [canary, { ...inbound, event: 'accept', protocol: null }, 'enforce'],
    [canary, { ...inbound, event: 'recvfrom' }, 'observe'],
    [canary, { ...inbound, event: null }, 'observe'],
    [canary, { ...inbound, protocol: 'udp' }, 'observe'],
    [canary, outbound, 'observe'],
    ['Inbound SSH Connection', inbound, 'monitor'],
    ['Disallowed SSH Connection', inbound, 'monitor'],
    ['Disallowed SSH Connection', outbound, 'observe'],
    ['Disallowed SSH Connection Non Standard Port', outbound, 'observe'],
    ['Detect outbound connections to common miner pool ports', outbound, 'monitor'],
    ['Detect outbound connections to common miner pool ports', { ...outbound, protocol: 'udp' }, 'observe'],
    ['Java Process Class File Download', outbound, 'observe'],
    ['System procs network activity', inbound, 'observe'],
    ['Unexpected UDP Traffic', inbound, 'observe'],
    ['Unexpected inbound connection source', inbound, 'observe'],
    ['Unexpected outbound connection destination', outbound, 'observe'],
    ['Interpreted procs inbound network activity', inbound, 'observe'],
    ['a rule nobody knows', inbound, 'observe'],
    ['', inbound, 'observe'],
    ['Contact K8S API Server From Container', outbound, 'observe'],
  ])('%s %j: %s', (rule, sighting, action) => {
    expect(act(rule, sighting)).toBe(action);
  });

  test.each(builtinPolicies.flatMap(({ rules }) => rules))(
    '%s: nothing but TCP and nothing unproven is acted on',
    (rule) => {
      for (const sighting of [inbound, outbound, { ...outbound, event: 'dup2' }]) {
        for (const protocol of ['udp', 'icmp', 'raw', 'sctp'])
          expect(act(rule, { ...sighting, protocol })).toBe('observe');
        expect(act(rule, { ...sighting, proven: false })).toBe('observe');
      }
    },
  );

  test('no rule stands in two policies, no two policies share a name', () => {
    const rules = builtinPolicies.flatMap((policy) => policy.rules.map((rule) => rule.toLowerCase()));
    expect(new Set(rules).size).toBe(rules.length);
    expect(new Set(builtinPolicies.map(({ name }) => name)).size).toBe(builtinPolicies.length);
    for (const { name, seconds } of builtinPolicies) {
      expect(name).toMatch(/^[a-z0-9-]+$/);
      expect(seconds).toBe(3600);
    }
  });
});
