import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseAddress } from '../../src/address/address.ts';
import { testRule } from '../../src/alert/test-rule.ts';
import { documentation } from '../../src/judge/guard/ranges.ts';
import { defaultRules, glimpse, judge, type Rules } from '../../src/judge/judge.ts';
import { policyFor, testPolicy } from '../../src/judge/policy/policy.ts';
import { alertTimeMs, alertWith, bareHost } from './host.ts';

/** Whatever an operator might write about it. */
const greedy: Rules = {
  ...defaultRules,
  policies: [
    {
      ...{ name: 'all', rules: [testRule], never: false, outbound: true, seconds: 86_400 },
      cases: [{ when: {}, action: 'enforce' }],
    },
  ],
};

const address = fc.oneof(
  fc.ipV4(),
  fc.ipV6(),
  fc.tuple(fc.constantFrom('192.0.2', '198.51.100', '203.0.113'), fc.nat(255)).map(([net, n]) => `${net}.${n}`),
);

test('a test alert never makes more than a claim that counts, for seconds, on a documentation address', () => {
  let acted = 0;
  fc.assert(
    fc.property(
      address,
      fc.constantFrom(testRule, testRule.toLowerCase(), testRule.toUpperCase()),
      fc.constantFrom('accept4', 'accept', 'connect', 'sendto', 'dup2', ''),
      fc.constantFrom('tcp', 'udp', null),
      fc.constantFrom('monitor' as const, 'enforce' as const),
      (client, rule, event, protocol, automatic) => {
        const fields = { 'evt.type': event, 'fd.l4proto': protocol, 'fd.name': `${client}:4000->127.0.0.1:2323` };
        const alert = alertWith(fields, { rule });
        const decision = judge(alert, bareHost, greedy, { automatic }, alertTimeMs);
        expect(
          decision.applied === 'enforce' || glimpse(alert, bareHost, greedy, { automatic }).applied === 'enforce',
        ).toBe(false);
        if (decision.verdict !== 'block') return;
        expect(documentation.covering(parseAddress(client))).not.toBeNull();
        expect(decision).toMatchObject({ policy: 'test-alert', seconds: 10 });
        if (decision.applied === 'monitor') acted++;
      },
    ),
    { numRuns: 2_000 },
  );
  expect(acted).toBeGreaterThan(0);
});

test('its policy is its own, whatever others name it', () => {
  expect(policyFor('FALCODROP test Alert', greedy.policies)).toBe(testPolicy);
  expect(policyFor(`${testRule} `, greedy.policies)).toBeNull();
});
