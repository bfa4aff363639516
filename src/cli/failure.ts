/** Whatever was thrown, as an error that a user can read. */
import { FalcodropError } from '../errors.ts';
import { isNativeError } from '../kernel/native.ts';

export function failureOf(error: unknown, verb: string): FalcodropError {
  if (error instanceof FalcodropError) return error.code === 'not_permitted' ? named(error, verb) : error;
  const { code, message } =
    error instanceof Error ? (error as NodeJS.ErrnoException) : { code: '', message: String(error) };
  if (code === 'EACCES' || code === 'EPERM') {
    return named(new FalcodropError('not_permitted', `${message}`, undefined, error), verb);
  }
  if (isNativeError(error))
    return new FalcodropError('kernel_call', `the kernel refused: ${message}`, undefined, error);
  return new FalcodropError(
    'failed',
    `unexpected: ${message}`,
    'this is a defect of falcodrop; FALCODROP_DEBUG=1 shows where it happened',
    error,
  );
}

/** Names the verb that wants root, once. */
function named(error: FalcodropError, verb: string): FalcodropError {
  const sudo = `sudo falcodrop ${verb} …`;
  if (error.hint?.includes(`falcodrop ${verb}`)) return error;
  const hint = error.hint === undefined ? sudo : `${error.hint}: ${sudo}`;
  return new FalcodropError(error.code, error.message, hint, error);
}
