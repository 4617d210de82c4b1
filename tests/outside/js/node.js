// MQTT.js in Node, over all four transports.

import mqtt from 'mqtt';
import { make } from './driver.js';
import { serve } from './serve.js';

const driver = make(mqtt);
await serve((op, args) => driver[op](...args));
process.exit(0);
