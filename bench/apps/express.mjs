// Static files as most Node.js apps serve them: Express with its defaults.

import express from "express";
import { createServer, dataDirectory, listen } from "./serve.mjs";

const app = express();
app.use(express.static(dataDirectory()));

listen(createServer(app));
