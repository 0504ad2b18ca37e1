#!/usr/bin/env node
// The same person as in browser.mjs with a real browser, which keeps the rules of cookies, redirects and content policies: Chromium,
// driven headless, without a cookie each time.
//
//   chromium.mjs URL STOP_PREFIX [--user NAME] [--password WORD]     prints the address it stopped at
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { PATIENCE, openPage, pressOn, withBrowser } from './pages.mjs';

const MOST_STEPS = 10;

export class Chromium {
  constructor({ user, password } = {}) { Object.assign(this, { user, password }); }

  /** Goes on until an address that begins with `stop`, where nobody needs to listen, and gives it. */
  walk(url, stop) {
    return withBrowser(async browser => {
      const { page, violations } = await openPage(browser);
      const back = page.waitForRequest(request => request.isNavigationRequest() && request.url().startsWith(stop), { timeout: PATIENCE * 2 });
      const end = back.then(request => new URL(request.url()));
      const way = [];
      const walked = async () => {
        let response = await page.goto(String(url));
        while (response.status() < 400 && way.length < MOST_STEPS) {
          way.push(new URL(page.url()).pathname);
          response = await pressOn(page, this);
        }
        throw new Error(`the way ends at ${page.url()} with ${response.status()}: ${(await page.innerText('body')).slice(0, 300)}\n  ${way.join('\n  ')}`);
      };
      const walking = walked();
      // Whoever comes second fails when the browser closes.
      for (const one of [end, walking]) one.catch(() => {});
      const ended = await Promise.race([end, walking]);
      if (violations.length) throw new Error(violations.join('\n'));
      return ended;
    });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values, positionals: [url, stop] } = parseArgs({ allowPositionals: true, options: { user: { type: 'string' }, password: { type: 'string' } } });
  if (!url || !stop) { console.error('usage: chromium.mjs URL STOP_PREFIX [--user NAME] [--password WORD]'); process.exit(2); }
  console.log((await new Chromium(values).walk(url, stop)).href);
}
