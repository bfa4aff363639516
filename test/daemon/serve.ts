/** `serve.ts PIN_DIR STATE_DIR ALIAS`: a daemon on a free port, armed, on the maps pinned there; its log goes to stderr. */
import { parseConfig } from '../../src/config/load.ts';
import { runDaemon } from '../../src/daemon/daemon.ts';

const [pinDir = '', stateDir = '', alias = ''] = process.argv.slice(2);
const config = parseConfig(`automatic: enforce\nhost_aliases: [${alias}]\nhttp: { port: 0 }\n`, 'test');
await runDaemon({ config, pinDir, stateDir });
