import { expect, test } from 'vitest';
import { failureOf } from '../../src/cli/failure.ts';
import { FalcodropError } from '../../src/errors.ts';

const thrownWith = (members: object, message = 'it failed') => Object.assign(new Error(message), members);

test.each<[string, unknown, string, string | undefined]>([
  ['our own', new FalcodropError('map_full', 'full', 'make room'), 'map_full', 'make room'],
  ['no right', new FalcodropError('not_permitted', 'no'), 'not_permitted', 'sudo falcodrop list …'],
  [
    'no right, with a hint',
    new FalcodropError('not_permitted', 'no', 'run it as root'),
    'not_permitted',
    'run it as root: sudo falcodrop list …',
  ],
  [
    'no right, named',
    new FalcodropError('not_permitted', 'no', 'sudo falcodrop list x'),
    'not_permitted',
    'sudo falcodrop list x',
  ],
  ['a file', thrownWith({ code: 'EACCES' }), 'not_permitted', 'sudo falcodrop list …'],
  ['the kernel', thrownWith({ code: 'ENOMEM', errno: 12, operation: 'BPF_MAP_CREATE' }), 'kernel_call', undefined],
  [
    'the kernel, no right',
    thrownWith({ code: 'EPERM', errno: 1, operation: 'BPF_OBJ_GET' }),
    'not_permitted',
    'sudo falcodrop list …',
  ],
  ['a defect', new TypeError('x is not a function'), 'failed', expect.stringContaining('FALCODROP_DEBUG=1') as string],
  ['something thrown', 'text', 'failed', expect.stringContaining('FALCODROP_DEBUG=1') as string],
])('%s', (_, thrown, code, hint) => {
  const failure = failureOf(thrown, 'list');
  expect(failure.code).toBe(code);
  expect(failure.hint).toEqual(hint);
});
