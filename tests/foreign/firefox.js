// Firefox with one page that subscribes to pushes and a service worker that shows them. Reads a JSON order
// on standard input, prints one JSON line per event, and ends when as many pushes were shown as ordered.
'use strict';

const fs = require('fs');
const http = require('http');
const path = require('path');
const puppeteer = require('puppeteer-core');

const order = JSON.parse(fs.readFileSync(0, 'utf8'));
const tell = (event) => console.log(JSON.stringify(event));

const WORKER = `
const toPages = async (event) => {
  for (const page of await clients.matchAll({ includeUncontrolled: true })) page.postMessage(event);
};
const show = async (text) => {
  await registration.showNotification(text);
  const notifications = await registration.getNotifications();
  await toPages({ push: text, shown: notifications.map((notification) => notification.title) });
};
self.addEventListener('push', (event) => {
  event.waitUntil(show(event.data.text()).catch((error) => toPages({ failed: String(error) })));
});
self.addEventListener('pushsubscriptionchange', (event) => event.waitUntil(toPages({ lost: true })));
`;

const PAGE = `<!doctype html><script>
navigator.serviceWorker.addEventListener('message', (event) => {
  fetch('/event', { method: 'POST', body: JSON.stringify(event.data) });
});
navigator.serviceWorker.startMessages();
async function subscribe(key) {
  await navigator.serviceWorker.register('/worker.js');
  const { pushManager } = await navigator.serviceWorker.ready;
  const subscription = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  return JSON.stringify(subscription);
}
</script>`;

// The page's own server, where it also tells what the worker has told it.
function serve(told) {
  const server = http.createServer((request, response) => {
    const [type, body] = request.url === '/worker.js' ? ['text/javascript', WORKER] : ['text/html', PAGE];
    let heard = '';
    request.on('data', (chunk) => { heard += chunk; });
    request.on('end', () => {
      response.writeHead(200, { 'Content-Type': type }).end(body);
      if (request.url === '/event') told(JSON.parse(heard));
    });
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

// Firefox is not to outlive this program, even if that is killed.
function leashed(firefox) {
  const script = path.join(order.directory, 'firefox');
  fs.writeFileSync(script, `#!/bin/sh\nexec setpriv --pdeathsig KILL '${firefox}' "$@"\n`, { mode: 0o755 });
  return script;
}

async function main() {
  let left = order.pushes;
  let end;
  const over = new Promise((resolve) => { end = resolve; });
  const server = await serve((event) => {
    tell(event);
    if (event.push !== undefined && --left === 0) end();
  });
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: leashed(order.firefox),
    userDataDir: path.join(order.directory, 'profile'),
    // A home of its own: neither the user's settings nor a trace left with them.
    env: { ...process.env, HOME: order.directory },
    extraPrefsFirefox: {
      // There is no desktop that would show notifications for it.
      'alerts.useSystemBackend': false,
      'dom.push.connection.enabled': true,
      'dom.push.serverURL': order.server,
      'dom.push.testing.allowInsecureServerURL': true,
      // The real 5 s would only make the test longer.
      'dom.push.retryBaseInterval': 1000,
      'permissions.default.desktop-notification': 1,
      'network.proxy.type': 0,
    },
  });
  const page = await browser.newPage();
  await page.goto(`http://localhost:${server.address().port}/`);
  tell({ version: await browser.version() });
  const subscription = await page.evaluate((key) => subscribe(key), order.key);
  tell({ subscription: JSON.parse(subscription) });
  await over;
  await browser.close();
  server.closeAllConnections();
  server.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
