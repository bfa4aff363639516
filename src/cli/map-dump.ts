/** `falcodrop map dump NAME`: a map's entries in words, or as bytes. */
import { FalcodropError } from '../errors.ts';
import {
  expectedMaps,
  expectedPrograms,
  isIterable,
  type Pin,
  rawEntries,
  readSet,
  type SetReading,
} from '../kernel/inspect.ts';
import { decodeSettings, FALCODROP_FORMAT, layout } from '../kernel/layout.ts';
import { type MapInfo, native } from '../kernel/native.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { type Call, flag } from './call.ts';
import { readFilters } from './filter.ts';
import { type Decoder, decodeBytes, decoderOf } from './map-words.ts';
import { table } from './output/table.ts';

export async function dumpMap(call: Call, name: string): Promise<void> {
  const { answer } = call;
  const { limit = Number.POSITIVE_INFINITY } = readFilters(call);
  const set = readSet(pinDirOf(call.environment));
  const pin = findMap(set, name);
  const info = infoOf(pin);
  const isRaw = flag(call, 'raw');
  if (!isRaw) requireLayout(set, pin, info);
  const known = Object.hasOwn(expectedMaps, name);
  if (!known && !isRaw) answer.note(`${name} is another tool's: its bytes are shown`);
  const decoder: Decoder = isRaw || !known ? decodeBytes : decoderOf(call, set, name);

  const opened = native().openMap(pin.path, { readOnly: true });
  try {
    const all = {
      *[Symbol.iterator]() {
        let left = limit;
        for (const line of decoder.lines(rawEntries(opened))) {
          if (left-- <= 0) return;
          yield line;
        }
      },
    };
    if (answer.json) {
      for (const { object } of all) {
        if (object !== null) answer.object(object);
        if (answer.full) await answer.flush();
        if (answer.closed) return;
      }
      return;
    }
    let count = 0;
    function* rows() {
      count = 0;
      for (const { row } of all) {
        count++;
        yield row;
      }
    }
    for (const line of table(decoder.columns, rows, answer.colour)) {
      if (count === 0) break; // the heading comes after the widths are known
      answer.line(line.trimEnd());
      if (answer.full) await answer.flush();
      if (answer.closed) return;
    }
    if (count === 0) answer.line(`${name} is empty`);
  } finally {
    opened.close();
  }
}

/** By its name in the set alone: a name is no path. */
function findMap(set: SetReading, name: string): Pin {
  const pin = set.pins.find((each) => each.name === name);
  if (pin === undefined) {
    const names = set.pins.filter(({ what }) => what.kind === 'map').map((each) => each.name);
    const shown = JSON.stringify(name.slice(0, 80));
    throw new FalcodropError('usage', `there is no map ${shown} in ${set.dir}`, `there are: ${names.join(', ')}`);
  }
  return pin;
}

function infoOf({ name, path, what }: Pin): MapInfo {
  if (what.kind === 'closed') {
    throw new FalcodropError(
      'not_permitted',
      `${path} may not be opened by this user`,
      'run it as root, or as a member of the service’s group',
    );
  }
  if (what.kind !== 'map') {
    const kind = Object.hasOwn(expectedPrograms, name) ? 'a program' : 'no map';
    throw new FalcodropError('usage', `${name} is ${kind}`, 'falcodrop map list tells what is one');
  }
  if (!isIterable(what.info)) {
    throw new FalcodropError('usage', `${name} is a ring, not a table`, 'falcodrop watch drops reads it');
  }
  return what.info;
}

/** What this version would misread is not read in words. */
function requireLayout(set: SetReading, { name }: Pin, info: MapInfo): void {
  const expected = expectedMaps[name];
  if (expected === undefined) return;
  if (info.keySize !== expected.key || info.valueSize !== expected.value) {
    throw new FalcodropError(
      'layout_mismatch',
      `${name} has keys of ${info.keySize} and values of ${info.valueSize} bytes, which is not this version's layout`,
      `its bytes: falcodrop map dump ${name} --raw`,
    );
  }
  const format = formatOf(set);
  if (format === null || format === FALCODROP_FORMAT) return;
  throw new FalcodropError(
    'layout_mismatch',
    `the maps have format ${format}, this falcodrop reads format ${FALCODROP_FORMAT}`,
    `its bytes: falcodrop map dump ${name} --raw`,
  );
}

/** null: it can not be told, and what else is wrong will be said. */
export function formatOf({ pins }: SetReading): number | null {
  const pin = pins.find(({ name }) => name === 'settings');
  if (pin?.what.kind !== 'map' || pin.what.info.valueSize !== layout.settings.size) return null;
  const opened = native().openMap(pin.path, { readOnly: true });
  try {
    const [first] = rawEntries(opened);
    return first === undefined ? null : decodeSettings(first.value).format;
  } finally {
    opened.close();
  }
}
