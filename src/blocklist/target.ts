/** Targets and ports in words, for rooms that know no addresses. */
import { formatPrefix, isHost, type Prefix } from '../address/prefix.ts';

export { formatPorts } from '../address/port.ts';

export interface TargetText {
  readonly text: string;
  /** False: a prefix. */
  readonly isAddress: boolean;
}

export function targetText(target: Prefix): TargetText {
  return { text: formatPrefix(target), isAddress: isHost(target) };
}
