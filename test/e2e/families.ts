/** Which file kills at which fault points: by the first word of a point's name. */
export const families = {
  'crash-hand.test.ts': ['block', 'extend', 'replace', 'unblock', 'insert', 'remove', 'unhint'],
  'crash-daemon.test.ts': ['automatic', 'settle', 'reap'],
  'crash-sets.test.ts': ['import', 'undo', 'reconcile'],
  'crash-attach.test.ts': ['attach', 'detach', 'purge'],
  'crash-root.test.ts': ['allow', 'protect', 'mode'],
  'crash-ledger.test.ts': ['ledger', 'migrate', 'aside', 'backup', 'restore'],
} as const satisfies Readonly<Record<string, readonly string[]>>;
