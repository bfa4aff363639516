/** The rule that `falcodrop test-alert` names. Anybody who may send alerts may name it too. */
export const testRule = 'Falcodrop Test Alert';

const lower = testRule.toLowerCase();

/** Letter case does not count, as with every rule's name. */
export function isTestRule(rule: string): boolean {
  return rule.length === lower.length && rule.toLowerCase() === lower;
}
