import { existsSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Lab, openLab, withLab } from './lab.ts';

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
