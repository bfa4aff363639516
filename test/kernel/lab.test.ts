import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ended, type Lab, openLab, withLab } from './lab.ts';

describe('the lab', () => {
  it('attaches in a namespace of its own and leaves nothing', async () => {
    let directory = '';
    await withLab((lab) => {
      directory = lab.directory;
      const edge = lab.namespace('e');
      const { a } = lab.veth({ namespace: edge, name: 'a', addresses: ['192.0.2.1/24'] }, { name: 'b' });
      const [outcome] = lab.attach(edge, [a]);
      expect(outcome).toMatchObject({ status: 'attached', attachment: { name: a } });
      expect(readdirSync(lab.pinDir)).toContain('current');
    });
    expect(existsSync(directory)).toBe(false);
  });

  it('takes everything away when the work fails', async () => {
    let opened: Lab | undefined;
    await expect(
      withLab((lab) => {
        opened = lab;
        lab.namespace('e');
        throw new Error('the work failed');
      }),
    ).rejects.toThrow('the work failed');
    expect(existsSync(`/run/netns/${opened?.name('e')}`)).toBe(false);
    expect(existsSync(opened?.directory ?? '/')).toBe(false);
  });

  it('takes everything away when the process is told to end', async () => {
    const script = `
      import { openLab } from ${JSON.stringify(join(import.meta.dirname, 'lab.ts'))};
      const lab = openLab();
      console.log(JSON.stringify([lab.directory, lab.namespace('e')]));
      setInterval(() => {}, 1000);
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const said = await new Promise<string>((resolve) => child.stdout.setEncoding('utf8').once('data', resolve));
    const [directory = '', namespace = ''] = JSON.parse(said) as string[];
    expect([existsSync(directory), existsSync(`/run/netns/${namespace}`)]).toEqual([true, true]);
    child.kill('SIGTERM');
    await ended(child);
    expect([existsSync(directory), existsSync(`/run/netns/${namespace}`)]).toEqual([false, false]);
  });

  it('notices what is left', async () => {
    const lab = openLab();
    const name = lab.name('x');
    lab.exec(null, 'ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', lab.name('y'));
    try {
      await expect(lab.close(50)).rejects.toThrow(`interface ${name}`);
    } finally {
      lab.exec(null, 'ip', 'link', 'del', name);
    }
  });
});
