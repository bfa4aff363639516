/** A YAML file as a layer of settings. Bounded in everything that a few bytes can make large. */
import {
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Node,
  type Pair,
  Parser,
  parseDocument,
  type YAMLMap,
} from 'yaml';
import { quote } from '../address/address.ts';
import { isSettings, type Layer } from './layer.ts';
import { aboutFile, type Place, type Problem } from './problem.ts';

/** Levels; no setting lies deeper, by far. */
const deepest = 16;

/** Values and keys, those that aliases repeat counted each time. Holds the longest lists that the schema takes. */
const mostNodes = 300_000;

/** Of one file; who made more made one. */
const mostProblems = 20;

/** `name` is for messages. What is no YAML has problems and no settings. */
export function readDocument(text: string, name: string): Layer {
  const lines = new LineCounter();
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { kind: 'file', file: name, line, column: col };
  };
  const refused = (problems: readonly Problem[]): Layer => ({
    settings: {},
    problems: problems.slice(0, mostProblems),
    placeOf: () => ({ kind: 'file', file: name, line: null, column: null }),
  });
  const tooDeep = `it is nested deeper than ${deepest} levels`;
  if (isTooDeep(text)) return refused([aboutFile(name, tooDeep)]);
  // Duplicates are looked for here: yaml compares each key with each (100 000 keys took minutes). YAML 1.1, which a
  // directive may ask for, reads `no` and `017` otherwise: 'core' is taken whatever it says.
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    uniqueKeys: false,
    schema: 'core',
    resolveKnownTags: false,
  });
  const problemAt = (offset: number, message: string): Problem => ({
    code: 'config_invalid',
    place: placeAt(offset),
    setting: null,
    message,
    hint: null,
  });
  const mistakes = [...document.errors, ...document.warnings];
  if (mistakes.length > 0) {
    return refused(
      mistakes.slice(0, mostProblems).map(({ pos: [offset], message }) => problemAt(offset, sentence(message))),
    );
  }

  const problems: Problem[] = [];
  let nodes = 0;
  const plain = (node: unknown, depth: number): unknown => {
    if (++nodes > mostNodes) throw new Excess('aliases or lists make it larger than a configuration may be');
    if (depth > deepest) throw new Excess(tooDeep);
    if (isScalar(node)) return node.value;
    if (isSeq(node)) return node.items.map((item) => plain(item, depth + 1));
    if (isMap(node)) return plainMap(node, depth);
    if (!isAlias(node)) return null;
    const meant = node.resolve(document);
    if (meant === undefined) {
      problems.push(
        problemAt(node.range?.[0] ?? 0, `no anchor before the alias ${quote(`*${node.source}`)} has its name`),
      );
    }
    return plain(meant ?? null, depth + 1);
  };
  const plainMap = (map: YAMLMap, depth: number): Readonly<Record<string, unknown>> => {
    const values = new Map<string, unknown>();
    for (const { key, value } of map.items) {
      const word = String(isScalar(key) ? key.value : key);
      if (values.has(word)) {
        const offset = isNode(key) ? (key.range?.[0] ?? 0) : 0;
        problems.push(problemAt(offset, `${quote(word)} stands here twice; keys must be unique`));
      }
      values.set(word, plain(value, depth + 1));
    }
    return Object.fromEntries(values);
  };

  let settings: unknown;
  try {
    settings = plain(document.contents, 0) ?? {};
  } catch (error) {
    if (error instanceof Excess) return refused([aboutFile(name, error.message)]);
    throw error;
  }
  if (!isSettings(settings)) return refused([aboutFile(name, 'settings are keys and values, and this is neither')]);
  if (problems.length > 0) return refused(problems);
  return { settings, problems, placeOf: (path) => placeOf(document.contents, path, placeAt) };
}

class Excess extends Error {}

/** Tokens that are open at a time, of which a level has two or three. */
const mostOpen = 4 * deepest;

/**
 * Whether it is not even to be parsed: yaml builds nodes by calling itself, and where V8 has to compile a regular expression at
 * the end of the stack, it aborts the process (Node 22). Its lexer and the parser's stack of tokens need none.
 */
function isTooDeep(text: string): boolean {
  const parser = new Parser();
  for (const lexeme of new Lexer().lex(text)) {
    for (const _token of parser.next(lexeme)) {
      // only how deep it is matters
    }
    if (parser.stack.length > mostOpen) return true;
  }
  return false;
}

/** In our words where yaml's are not for people. */
function sentence(message: string): string {
  return `${message[0]?.toLowerCase() ?? ''}${message.slice(1)}`.replace(/^the ?/, 'the ');
}

function placeOf(contents: unknown, path: readonly PropertyKey[], placeAt: (offset: number) => Place): Place {
  let node = contents as Node | null;
  let offset = node?.range?.[0] ?? 0;
  for (const step of path) {
    let next: Node | null = null;
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step)) as
        | Pair<Node, Node | null>
        | undefined;
      offset = pair?.key.range?.[0] ?? offset;
      next = pair?.value ?? null;
    } else if (isSeq(node)) {
      next = (node.items[Number(step)] as Node | undefined) ?? null;
      offset = next?.range?.[0] ?? offset;
    }
    if (next === null) break;
    node = next;
  }
  return placeAt(offset);
}
