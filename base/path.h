/* Paths: where a program finds the files that came with it. */
#ifndef BW_BASE_PATH_H
#define BW_BASE_PATH_H

enum { BW_PATH_CHARS = 4096 };

/* The default model: models/ in the working directory, else beside the program (build tree), else
 * in the share/ folder of the prefix it was installed under. If there is none, the first of these,
 * so that the error names it. Any thread. */
void bw_default_model(char path[BW_PATH_CHARS]);

#endif
