/**
 * Prints this network namespace's facts as a line of JSON: `print.ts PIN_DIR ROOT [watch]`. With `watch` one line at once and
 * one after every change, until its standard input ends.
 */
import { formatPrefix } from '../../src/address/prefix.ts';
import { attachedIfindexes } from '../../src/host/attached.ts';
import { type HostReading, readHostFacts } from '../../src/host/facts.ts';
import { watchHost } from '../../src/host/watch.ts';

const [pinDir = '', root = '', mode = ''] = process.argv.slice(2);

function print(facts: HostReading): void {
  const texts = Object.fromEntries(
    (['own', 'containers', 'broadcasts', 'gateways', 'resolvers', 'sessions'] as const).map((name) => [
      name,
      facts[name].prefixes.map(formatPrefix).toSorted(),
    ]),
  );
  process.stdout.write(
    `${JSON.stringify({ ...texts, names: [...(facts.names ?? [])], unresolvable: facts.unresolvable })}\n`,
  );
}

if (mode === 'watch') {
  const watching = watchHost({
    pinDir,
    aliases: [],
    root,
    onFacts: print,
    onProblem: (problem) => process.stderr.write(problem),
  });
  print(watching.facts());
  process.stdin.resume();
  process.stdin.on('end', () => void watching.close());
} else {
  print(readHostFacts({ attachedIfindexes: attachedIfindexes(pinDir), aliases: ['alias.example'], root }));
}
