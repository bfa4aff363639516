/** systemd's notification protocol (sd_notify(3)): what the unit's Type=notify waits for. */
import { native } from '../kernel/native.ts';

/** Without `NOTIFY_SOCKET`, or when nobody listens there, nothing happens. */
export function notify(state: string, environment: NodeJS.ProcessEnv = process.env): void {
  const socket = environment.NOTIFY_SOCKET;
  if (socket === undefined || !/^[/@]/.test(socket)) return;
  try {
    native().sendUnixDatagram(socket, Buffer.from(state));
  } catch {
    // the service manager is gone or its queue is full; it is told again at the next change
  }
}
