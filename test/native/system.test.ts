import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { native } from '../../src/kernel/native.ts';
import { ending, firstLine, type Lab, openLab, refusal } from './lab.ts';

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.close());

const receiver = `
import socket, sys
name = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\\0" + name[1:] if name.startswith("@") else name)
print("bound", flush=True)
print(s.recv(65536).hex(), flush=True)
`;

test.each(['@fd-test', 'path'])('one datagram to %s', async (name) => {
  const address = name.startsWith('@') ? `${name}${process.pid}` : `${lab.directory}/socket`;
  const child = spawn('python3', ['-c', receiver, address]);
  const ended = ending(child);
  expect(await firstLine(child)).toBe('bound');
  native().sendUnixDatagram(address, Buffer.from('READY=1\nSTATUS=\0here'));
  expect((await ended).stdout).toBe(`bound\n${Buffer.from('READY=1\nSTATUS=\0here').toString('hex')}\n`);
});

test('an empty datagram is one too; nobody there, names too long are refused', () => {
  expect(refusal(() => native().sendUnixDatagram('@fd-nobody', Buffer.alloc(0)))).toMatchObject({
    operation: 'sendUnixDatagram',
    code: 'ECONNREFUSED',
  });
  expect(refusal(() => native().sendUnixDatagram(`${lab.directory}/absent`, Buffer.alloc(1))).code).toBe('ENOENT');
  expect(refusal(() => native().sendUnixDatagram(`/${'x'.repeat(107)}`, Buffer.alloc(1))).code).toBe('ENAMETOOLONG');
  expect(refusal(() => native().sendUnixDatagram(`/${'x'.repeat(106)}`, Buffer.alloc(1))).code).toBe('ENOENT');
  expect(refusal(() => native().sendUnixDatagram(`@${'x'.repeat(107)}`, Buffer.alloc(1))).code).toBe('ECONNREFUSED');
  expect(refusal(() => native().sendUnixDatagram(`@${'x'.repeat(108)}`, Buffer.alloc(1))).code).toBe('ENAMETOOLONG');
});

test('a bpffs is mounted with the mode asked for, and unmounted', () => {
  const target = `${lab.directory}/mounted`;
  mkdirSync(target);
  native().mountBpffs(target, 0o755);
  try {
    expect(statfsSync(target).type).toBe(0xcafe4a11); // BPF_FS_MAGIC
    expect(statSync(target).mode & 0o7777).toBe(0o1755); // bpffs adds the sticky bit by itself
    const mount = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((entry) => entry.includes(` ${target} `));
    expect(mount).toMatch(/nosuid,nodev,noexec/);
  } finally {
    native().unmount(target);
  }
  expect(statfsSync(target).type).not.toBe(0xcafe4a11);
  expect(refusal(() => native().unmount(target))).toMatchObject({ operation: 'unmount', code: 'EINVAL' });
  expect(refusal(() => native().mountBpffs(`${target}/absent`, 0o700)).code).toBe('ENOENT');
  expect(existsSync(target)).toBe(true);
});

test('the clocks go on, boot time never behind the monotonic one', () => {
  const before = process.hrtime.bigint(); // CLOCK_MONOTONIC
  const { monotonicNs, boottimeNs } = native().clocks();
  const after = process.hrtime.bigint();
  expect(monotonicNs).toBeGreaterThanOrEqual(before);
  expect(monotonicNs).toBeLessThanOrEqual(after);
  expect(boottimeNs).toBeGreaterThanOrEqual(monotonicNs);
});

test('membarrier comes back', () => {
  expect(native().membarrier()).toBeUndefined();
});

test('a pipe is hung up when its reader is gone, and so is a descriptor that is closed', async () => {
  const script = `
    const require = process.getBuiltinModule('node:module').createRequire(process.cwd() + '/');
    const { isHungUp } = require('./build/Release/falcodrop.node');
    console.error(isHungUp(1));
    process.stdin.once('data', () => console.error(isHungUp(1), isHungUp(999)));
    process.stdin.once('end', () => undefined);
  `;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (text: Buffer) => {
    said += text.toString();
    if (said !== 'false\n') return;
    child.stdout.destroy();
    child.stdin.end('go\n');
  });
  await new Promise((resolve) => child.once('close', resolve));
  expect(said).toBe('false\ntrue true\n');
});

test('two directories change names, also when both have something in them', () => {
  const [one, other] = [`${lab.directory}/one`, `${lab.directory}/other`];
  for (const folder of [one, other]) mkdirSync(folder);
  writeFileSync(`${one}/first`, '');
  writeFileSync(`${other}/second`, '');
  native().exchangePaths(one, other);
  expect([readdirSync(one), readdirSync(other)]).toEqual([['second'], ['first']]);
  expect(refusal(() => native().exchangePaths(one, `${lab.directory}/absent`))).toMatchObject({
    operation: 'exchangePaths',
    code: 'ENOENT',
  });
  expect(readdirSync(one)).toEqual(['second']);
});
