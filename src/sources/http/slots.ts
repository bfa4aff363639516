import type { Socket } from 'node:net';

/**
 * Which connections are kept when there are too many: those that have brought an alert. Falco's next alert is lost when its
 * connection is refused, so a new one makes the oldest unproven one give way, and not the other way round: who opens
 * connections and says nothing takes no slot from who speaks.
 */
export class Slots {
  readonly #most: number;
  readonly #whenAllProven: () => void;
  readonly #open = new Set<Socket>();
  readonly #unproven = new Set<Socket>();

  /** `whenAllProven`: closes idle ones; their owners connect anew. */
  constructor(most: number, whenAllProven: () => void) {
    this.#most = most;
    this.#whenAllProven = whenAllProven;
  }

  take(socket: Socket): void {
    this.#open.add(socket);
    this.#unproven.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#unproven.delete(socket);
    });
    if (this.#open.size <= this.#most) return;
    const [oldest = socket] = this.#unproven;
    // Not waited for: until its 'close' it would be chosen again.
    this.#unproven.delete(oldest);
    oldest.destroy();
    if (oldest === socket) this.#whenAllProven();
  }

  prove(socket: Socket): void {
    this.#unproven.delete(socket);
  }

  /** Also those that are no HTTP yet: in the middle of a TLS handshake. */
  cutAll(): void {
    for (const socket of this.#open) socket.destroy();
  }
}
