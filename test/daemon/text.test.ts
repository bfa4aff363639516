import { expect, test } from 'vitest';
import { cleanText } from '../../src/daemon/text.ts';

test('format characters beyond the basic plane and outside of the known overrides are shown', () => {
  expect(cleanText('\u061c\u00ad\u{e0041}', 100)).toBe('\\u061c\\u00ad\\udb40\\udc41');
});
