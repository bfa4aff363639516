/** `falcodrop version` */
import { FALCODROP_FORMAT } from '../kernel/layout.ts';
import { native } from '../kernel/native.ts';
import { objectDigest } from '../kernel/object.ts';
import type { Call } from './call.ts';
import { release } from './release.ts';

export async function showVersion({ answer }: Call): Promise<void> {
  const libbpf = ifThere(() => native().versions.libbpf);
  const digest = ifThere(objectDigest);
  if (answer.json) {
    answer.object({
      version: release,
      object_sha256: digest,
      format: FALCODROP_FORMAT,
      node: process.versions.node,
      libbpf,
    });
    return;
  }
  answer.line(`falcodrop ${release}`);
  answer.line(`object    ${digest ?? 'not built'}`);
  answer.line(`format    ${FALCODROP_FORMAT}`);
  answer.line(`node      ${process.versions.node}`);
  answer.line(`libbpf    ${libbpf ?? 'unknown: the addon is not built'}`);
}

/** The version is told of an installation that is broken, too. */
function ifThere<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}
