/**
 * Attaches or detaches in the network namespace it is started in; lab.ts starts it. The request is the argument, as JSON;
 * the outcome, or the error's code and words, is printed as JSON.
 */
import { FalcodropError } from '../../src/errors.ts';
import { attach, detach, type Service, type XdpMode } from '../../src/kernel/attach.ts';
import type { Sizes } from '../../src/kernel/object.ts';

interface Request {
  readonly verb: 'attach' | 'detach';
  readonly pinDir: string;
  readonly names: readonly string[] | null;
  readonly mode?: XdpMode | 'auto';
  readonly sizes?: Partial<Sizes>;
  readonly service?: Service;
  readonly purge?: boolean;
}

const request = JSON.parse(process.argv[2] ?? '') as Request;
try {
  const done =
    request.verb === 'attach'
      ? await attach(request.pinDir, request.names ?? [], {
          mode: request.mode ?? 'auto',
          sizes: request.sizes ?? {},
          service: request.service ?? { uid: 0, gid: 0 },
        })
      : await detach(request.pinDir, request.names, { purge: request.purge ?? false });
  process.stdout.write(JSON.stringify({ done }));
} catch (error) {
  if (!(error instanceof FalcodropError)) throw error;
  process.stdout.write(JSON.stringify({ code: error.code, message: error.message, hint: error.hint }));
}
