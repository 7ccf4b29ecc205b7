// Sends one push with npm's web-push. Reads a JSON order on standard input, prints the status code.
'use strict';

const http = require('http');
const https = require('https');

// The library insists on TLS; everything but the transport stays its own.
https.request = http.request;
const webpush = require('web-push');

const order = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const options = { TTL: 60, contentEncoding: order.encoding, urgency: 'high', topic: 'from-node' };
if (order.vapid) {
  const { subject, public: publicKey, private: privateKey } = order.vapid;
  options.vapidDetails = { subject, publicKey, privateKey };
}
const subscription = { endpoint: order.endpoint, keys: order.keys };
webpush.sendNotification(subscription, order.message, options).then(
  (result) => console.log(result.statusCode),
  (error) => console.log(error.statusCode || error),
);
